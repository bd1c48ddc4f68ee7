"""The rows of field_reports.md, E, as scenarios: what the checker once found, or what they tell.

Each must run without a finding, on every store that it can concern.
"""

from __future__ import annotations

from .scenario import (
    Audit,
    Damage,
    Deliver,
    Fail,
    Forget,
    Op,
    Purge,
    Request,
    Revoke,
    RevokeAll,
    Scenario,
    Share,
    Stranger,
    Tick,
)

SHARED = ("memory", "file", "redis", "encrypted")
LONG = "x" * 14


def on(stores: tuple[str, ...], *events: object, **options: object) -> list[Scenario]:
    return [Scenario(store, dict(options), list(events)) for store in stores]  # type: ignore[arg-type] # lists of literals lose their types


def _rotations(number: int) -> list[object]:
    return [Request(0, ops=[("set", "a", 1)]), *[Tick(101), Request(0, ops=[("len",)])] * number]


AFTER_A_LOST_ANSWER: list[tuple[Op, tuple[Op, ...]]] = [
    (("login", "u"), (("login", "v"), ("set", "a", 5), ("try", ("save",)), ("clear",))),
    (("login", "u"), (("login", "v"), ("try", ("save",)), ("owner", "u"))),
    (("set", "b", 1), (("set", "a", 5), ("try", ("save",)), ("clear",))),
    (("set", "b", 1), (("set", "a", 5), ("try", ("save",)), ("del", "a"))),
    (("set", "b", 1), (("set", "b", 2), ("try", ("save",)), ("set", "b", 1))),
    (("set", "b", 1), (("del", "b"), ("try", ("save",)), ("set", "b", 1))),
    (("set", "b", 1), (("owner", "v"), ("try", ("save",)), ("owner", None))),
    (("set", "b", 1), (("set_label", "d", "y"), ("try", ("save",)), ("label", {}))),
]

KNOWN: dict[str, list[Scenario]] = {
    "e1_a_process_without_the_key_lists": on(
        ("encrypted",),
        Request(0, ops=[("login", "u")]),
        Tick(101),
        Stranger("u"),
        RevokeAll("u"),
    ),
    "e2_a_longer_life_later": on(
        SHARED,
        Request(0, ops=[("lifetime", 200, 500), ("login", "u")]),
        Request(0, ops=[("lifetime", 1000, 3000)]),
        Tick(950),
        Purge(),
        RevokeAll("u"),
    ),
    "e3_all_removed_and_saved": on(
        ("client",),
        Request(0, ops=[("set", "a", 1), ("login", "u")]),
        Request(0, ops=[("owner", None), ("clear",), ("save",)]),
    ),
    "e4_a_label_that_cannot_be_read_back": [
        scenario
        for how in ("long", "number", "many")
        for scenario in on(
            (*SHARED, "client"),
            Request(0, ops=[("set", "a", 1)]),
            Request(0, ops=[("try", ("spoil_label", how))]),
            Request(0, ops=[("look",)]),
        )
    ],
    "e5_rotations_at_once": [
        scenario
        for call in range(1, 5)
        for scenario in on(
            SHARED,
            Request(0, ops=[("login", "u")]),
            Tick(101),
            Request(0, ops=[("len",)], at={call: Request(0, ops=[("len",)], late=True)}),
            Deliver(0),
            Tick(40),
            Request(0, ops=[("look",)]),
            rotate_after=100,
        )
    ],
    "e6_saved_then_a_login_that_fails": [
        scenario
        for op in (("login", "u"), ("owner", "u"), ("regenerate",))
        for end in ("error", "stream_error", "raise")
        for scenario in on(
            (*SHARED, "client"),
            Request(0, ops=[("set", "a", 1), ("save",), op], end=end),
            Request(0, ops=[("look",)]),
        )
    ],
    "e7_a_rotation_that_fails_in_save": [
        scenario
        for call in range(1, 5)
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Tick(101),
            Request(0, ops=[("set", "b", 1), ("try", ("save",))], at={call: Fail()}),
            Request(0, ops=[("look",)]),
            rotate_after=100,
        )
    ],
    "e8_a_slow_answer_after_a_login": [
        scenario
        for options in ({"rolling": True}, {"persistent": True})
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Request(0, ops=[("len",), ("meanwhile", Request(0, ops=[("login", "u")]))]),
            Request(0, ops=[("look",)]),
            **options,
        )
    ],
    "e9_a_transaction_after_letting_go": [
        scenario
        for renew in (("login", "u", False), ("regenerate", False), ("regenerate", ["a"]))
        for op in (("increment", "n"), ("transaction", "n", 1), ("take", "n"))
        for scenario in on(
            SHARED,
            Request(0, ops=[("update", {"n": 1, "b": 2})]),
            Request(0, ops=[renew, op]),
            Request(0, ops=[("look",)]),
        )
    ],
    "e10_a_stream_clears": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Tick(61),
        Request(
            0,
            ops=[("len",), ("meanwhile", Request(0, ops=[("set", "b", 2)]))],
            tail=[("clear",)],
            end="stream",
        ),
        Request(0, ops=[("look",)]),
    ),
    "e11_a_reload": on(
        (*SHARED, "client"),
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("get", "a"), ("reload",), ("set", "b", 2)]),
        Request(0, ops=[("look",)]),
    ),
    "e12_saved_before_an_error": [
        scenario
        for end in ("error", "stream_error")
        for scenario in on(
            (*SHARED, "client"),
            Request(0, ops=[("set", "a", 1)]),
            Request(0, ops=[("set", "b", 2), ("save",)], end=end),
            Request(0, ops=[("look",)]),
        )
    ],
    "e13_a_damaged_field": [
        scenario
        for op in (("take", "a"), ("increment", "a"), ("transaction", "a", 1), ("set", "a", 1))
        for scenario in on(
            SHARED, Request(0, ops=[("set", "a", 1)]), Damage(0, "a"), Request(0, ops=[op])
        )
    ],
    "e14_the_store_fails_after_a_login_was_written": [
        scenario
        for op in (("login", "u"), ("regenerate",), ("owner", "u"))
        for call in range(1, 8)
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Request(0, ops=[op], at={call: Fail()}),
            Request(0, ops=[("look",)]),
        )
    ],
    "e15_logins_of_one_browser": on(
        SHARED, *[Request(0, ops=[("login", "u")]), Request(0, ops=[("regenerate",)])] * 3
    ),
    "e16_rotations_in_a_small_store": on(
        ("memory",), *_rotations(4), rotate_after=100, max_sessions=2
    ),
    "e17_a_read_of_what_is_too_big": on(
        SHARED,
        Request(0, ops=[("set", "a", LONG)]),
        Request(0, ops=[("set", "b", LONG), ("meanwhile", Request(0, ops=[("set", "n", LONG)]))]),
        Tick(101),
        Request(0, ops=[("get", "a")]),
        Request(0, ops=[("regenerate",)]),
        Request(0, ops=[("del", "a")]),
        rotate_after=100,
        max_bytes=40,
    ),
    "e18_the_test_helper_saves": on(
        (*SHARED, "client"),
        Request(0, ops=[("login", "u"), ("save",)], via="session_of"),
        Request(0, ops=[("look",)]),
    ),
    "e19_rotations_for_long": on(SHARED, *_rotations(4), rotate_after=100),
}

ALSO: dict[str, list[Scenario]] = {
    "a_stream_that_fails_keeps_the_session": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("regenerate",)], end="stream_error"),
    ),
    "a_slow_destroy_wins_over_a_login": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("len",), ("meanwhile", Request(0, ops=[("login", "u")])), ("destroy",)]),
    ),
    "who_just_signs_in_is_not_ended_to_make_room": on(
        SHARED,
        Request(1, ops=[("login", "u")]),
        Request(0, ops=[("login", "u")]),
        Forget(0),
        Request(0, ops=[("login", "u")]),
        Share(0, 1),
        max_per_owner=1,
    ),
    "a_touch_that_fails_takes_no_saved_session": on(
        SHARED,
        Request(0, ops=[("set", "a", 1), ("save",)], at={1: Fail()}),
        touch_interval=0,
    ),
    "what_others_wrote_survives_an_empty_regenerate": on(
        SHARED,
        Request(0, ops=[("clear",)]),
        Request(0, ops=[("regenerate",), ("meanwhile", Request(0, ops=[("set", "a", 1)]))]),
        save_uninitialized=True,
    ),
    "no_entry_goes_with_the_record_still_there": on(
        SHARED,
        Request(0, ops=[("login", "u")]),
        Tick(1100),
        Audit(),
        Tick(-500),
    ),
    "a_place_that_was_taken_early_lasts": on(
        SHARED,
        Request(0, ops=[("login", "u")], at={1: Tick(2900)}),
        Tick(101),
        when_full="refuse",
        max_per_owner=1,
    ),
    "a_refused_place_is_not_given_back_by_a_login_that_stands": [
        scenario
        for call in range(1, 8)
        for scenario in on(
            SHARED,
            Request(0, ops=[("login", "u")], at={call: Fail()}),
            when_full="refuse",
            max_per_owner=1,
        )
    ],
    "two_logins_at_once_both_read_the_list": [
        scenario
        for options in ({"when_full": "refuse", "max_per_owner": 1}, {"max_per_owner": 1}, {})
        for call in range(1, 6)
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Request(
                0,
                ops=[("try", ("login", "u"))],
                at={call: Request(0, ops=[("try", ("login", "u"))])},
            ),
            **options,
        )
    ],
    "a_login_that_was_revoked_stays_so": [
        scenario
        for call in range(1, 6)
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Request(0, ops=[("login", "u")], at={call: RevokeAll("u")}),
        )
    ],
    "what_a_lost_answer_left_is_ended_if_nothing_is_kept": [
        scenario
        for ops in (
            [("regenerate", False)],
            [("regenerate", False), ("save",)],
            [("owner", None)],
        )
        for scenario in on(
            SHARED,
            Request(
                0,
                ops=[("login", "v"), ("try", ("save",)), *ops],
                at={1: Fail(answer_lost=True)},
            ),
        )
    ],
    "what_comes_after_what_a_lost_answer_left_is_another_session": [
        *on(
            SHARED,
            Request(
                0,
                ops=[("try", ("transaction", "b", 10)), ("save",), ("increment", "n")],
                tail=[("set", "l", [11])],
                at={0: Fail(answer_lost=True)},
            ),
        ),
        *on(
            SHARED,
            Request(
                0,
                ops=[("owner", "v"), ("try", ("save",))],
                tail=[("destroy",)],
                end="stream_error",
                at={1: Fail(answer_lost=True, lasting=True)},
            ),
        ),
    ],
    "a_login_whose_session_ended_and_that_fails_goes_on_in_a_fresh_one": on(
        SHARED,
        Request(0, ops=[("transaction", "a", 1)]),
        Tick(101),
        Request(
            0,
            ops=[
                ("set_label", "device", "y"),
                ("meanwhile", Tick(950)),
                ("login", "u"),
                ("save",),
            ],
            at={6: Fail()},
        ),
        max_per_owner=1,
        when_full="refuse",
    ),
    "a_login_is_completed_after_a_take_that_failed": on(
        SHARED,
        Request(0, ops=[("take", "l")]),
        Request(
            0,
            ops=[
                (
                    "meanwhile",
                    Request(
                        0,
                        ops=[("login", "v"), ("try", ("take", "n"))],
                        at={1: Request(0, ops=[("set", "a", 17)]), 2: Fail()},
                    ),
                )
            ],
        ),
        save_uninitialized=True,
    ),
    "a_limit_reaches_back_where_the_clock_was_put_back": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("set", "b", 11)], end="stream", at={1: Tick(-500)}),
        Tick(950),
        Request(0, ops=[("meanwhile", Request(0, ops=[("lifetime", 200, 500)]))]),
    ),
    "a_use_that_began_in_time_may_be_written_late": on(
        SHARED,
        Request(0, ops=[("clear",)]),
        Request(
            0,
            ops=[("clear",)],
            tail=[("meanwhile", Tick(400))],
            end="stream",
            at={1: Request(0, ops=[("id",), ("meanwhile", Tick(950))], tail=[("set", "b", 23)])},
        ),
        save_uninitialized=True,
    ),
    "a_login_that_is_tried_again_happens_after_what_was_revoked_meanwhile": on(
        SHARED,
        Request(
            0,
            ops=[("login", "u"), ("try", ("save",))],
            at={2: RevokeAll("u", spare=0), 1: Fail(answer_lost=True)},
        ),
    ),
    "a_session_over_the_limit_that_an_outage_spared_ends_later": on(
        SHARED,
        Request(0, ops=[("owner", "v")]),
        Request(1, ops=[("login", "v")], at={6: Fail()}),
        Request(0, ops=[("set", "l", 1)]),
        max_per_owner=1,
    ),
    "a_use_counts_from_when_its_request_began": on(
        SHARED,
        Request(0, ops=[("setdefault", "a", 4)]),
        Tick(-500),
        Request(0, ops=[("set", "b", "x")], at={1: Tick(950)}),
        Tick(101),
    ),
    "a_login_counts_from_when_it_was_called": on(
        SHARED,
        Request(0, ops=[("reload",), ("login", "v"), ("save",)], at={1: Tick(2900)}),
        Request(0, ops=[("touch",)]),
        Tick(400),
        max_per_owner=1,
        when_full="refuse",
    ),
    "the_cookie_of_what_was_saved_goes_out_in_an_outage": on(
        SHARED,
        Request(
            0,
            ops=[("set", "n", 1), ("save",), ("set", "b", 8), ("save",)],
            at={1: Fail(lasting=True)},
        ),
    ),
    "a_clock_that_is_put_back_rotates_nothing": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("set", "b", 2)], late=True),
        Tick(-20),
        Request(0, ops=[("set", "a", 3)]),
        Deliver(0),
        persistent=True,
    ),
    "a_login_after_another_ended_its_session_is_listed": on(
        SHARED,
        Request(0, ops=[("set", "a", 1)]),
        Request(0, ops=[("len",), ("meanwhile", Request(0, ops=[("login", "u")])), ("login", "u")]),
        RevokeAll("u"),
    ),
    "what_an_outage_left_unclear_is_learned_by_reading_it": on(
        SHARED,
        Request(0, ops=[("login", "v")]),
        Request(0, ops=[("login", "u")], at={1: Fail(answer_lost=True)}),
        Request(0, ops=[("login", "u")], tail=[("set", "n", 9)], end="stream"),
        Tick(-20),
        Request(0, ops=[("in", "l")]),
    ),
    "a_login_that_is_ended_while_it_looks_at_the_others_gives_out_no_cookie": on(
        SHARED,
        *(
            Request(0, ops=[("setdefault", "b", 4)]),
            Request(0, ops=[("login", "v")], at={1: Request(0, ops=[("login", "u")])}),
            Request(0, ops=[("login", "v")], at={2: Fail()}),
            Request(
                0,
                ops=[
                    (
                        "meanwhile",
                        Request(0, ops=[("login", "u")], at={6: Request(0, ops=[("login", "u")])}),
                    )
                ],
            ),
        ),
        max_per_owner=1,
    ),
    "a_login_that_was_revoked_and_could_not_be_ended_ends_later": on(
        SHARED,
        Request(0, ops=[("setdefault", "l", 7)]),
        Request(0, ops=[("login", "u")], at={2: RevokeAll("u"), 5: Fail()}),
    ),
    "whose_deletion_ended_a_session_is_not_known_after_an_outage": on(
        SHARED,
        Request(0, ops=[("login", "u")]),
        Request(
            0,
            ops=[("owner", None), ("meanwhile", Revoke(0)), ("try", ("save",)), ("set", "n", 5)],
            at={1: Fail()},
        ),
    ),
    "what_a_transaction_empties_is_deleted_and_a_fresh_session_begins": on(
        SHARED,
        Request(0, ops=[("set", "l", [1])]),
        Request(0, ops=[("regenerate",), ("take", "l"), ("set", "l", [2])]),
        Request(0, ops=[("take", "l"), ("set", "l", [3]), ("save",), ("take", "l")]),
        Request(0, ops=[("set", "n", 1), ("take", "n"), ("set", "n", 2)]),
    ),
    "a_number_that_is_set_to_the_next_one_was_not_counted_yet": on(
        SHARED,
        Request(0, ops=[("set", "n", 36)]),
        Request(
            0,
            ops=[("set", "n", 37), ("increment", "n")],
            at={2: Request(0, ops=[("increment", "n")])},
        ),
    ),
    "what_is_emptied_and_filled_by_a_transaction_stays_one_session": on(
        SHARED,
        Request(0, ops=[("login", "v")]),
        Request(
            0,
            ops=[("destroy",)],
            at={1: Request(0, ops=[("regenerate", False), ("increment", "n")])},
        ),
        Request(0, ops=[("login", "u")]),
        Tick(950),
        Request(
            0,
            ops=[("owner", None), ("transaction", "n", 2)],
            tail=[("lifetime", 200, 500)],
            end="stream",
        ),
    ),
    "after_a_lost_answer_what_the_app_said_last_is_stored": [
        scenario
        for first, ops in AFTER_A_LOST_ANSWER
        for lost in (1, 2)
        for scenario in on(
            SHARED,
            Request(0, ops=[first]),
            Request(0, ops=[*ops], at={lost: Fail(answer_lost=True)}),
        )
    ],
    "what_a_failing_transaction_committed_may_be_ended_before_the_answer": on(
        SHARED,
        Request(
            0,
            ops=[
                ("login", "u"),
                ("try", ("broken_transaction", "n")),
                ("meanwhile", Request(0, ops=[("login", "u")])),
            ],
            end="error",
        ),
        max_per_owner=1,
    ),
    "a_stream_may_write_too_late_to_what_it_has_emptied": on(
        SHARED,
        Request(
            0,
            ops=[("transaction", "a", 1), ("take", "a")],
            tail=[("set", "b", 4)],
            end="stream_error",
            at={3: Fail(answer_lost=True)},
        ),
        save_on_error=True,
    ),
    "a_view_that_takes_longer_than_its_new_session_may_live": on(
        SHARED,
        Request(
            0,
            ops=[
                ("lifetime", 200, 500),
                ("meanwhile", Tick(1100)),
                ("setdefault", "b", 15),
                ("take", "b"),
            ],
        ),
    ),
    "a_view_that_takes_longer_than_the_session_that_it_signs_in_may_live": on(
        SHARED,
        Request(0, ops=[("lifetime", 200, 500), ("set", "n", 1)]),
        Request(0, ops=[("login", "u"), ("meanwhile", Tick(950)), ("take", "n"), ("del", "l")]),
    ),
    "what_may_be_stored_under_an_id_that_nobody_has_stays_if_the_store_fails": [
        scenario
        for at in (
            {1: Fail(answer_lost=True, lasting=True)},
            {1: Fail(answer_lost=True), 2: Fail()},
        )
        for scenario in on(
            SHARED,
            Request(0, ops=[("set", "a", 1)]),
            Tick(1900),
            Request(0, ops=[("set", "l", [2]), ("try", ("save",)), ("clear",)], at=at),
        )
    ],
}
"""What the checker found besides."""
