"""The benchmarks compare like with like: every contender does the work that it is timed for.

Only what is right is tested here, never what is fast.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from json import dumps

import pytest

import databases
from benchmarks import contenders as c
from benchmarks import cost, load, measure, races, report, scale_simulation, server, sql, wire
from benchmarks.contenders import Maker
from benchmarks.load_app import BARE, MAKERS
from benchmarks.load_client import Browser, complete
from benchmarks.work import payload
from own_process import in_a_process_of_its_own

pytestmark = pytest.mark.slow

NEEDS = {
    "beaker": "beaker",
    "flask_session": "flask_session",
    "flask_cookie": "flask",
    "django_sessions": "django",
}


@pytest.fixture(scope="module", params=["memory", "file", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize(
    "maker",
    [c.ours, c.minimum, c.beaker, c.flask_session, c.django_sessions],
    ids=lambda maker: maker.__name__,
)
def test_every_contender_really_reads_changes_and_ends_sessions(maker: Maker, storage: str) -> None:
    module = NEEDS.get(maker.__name__)
    if module is not None:
        pytest.importorskip(module, reason=f"{module} is in the dependency group bench")
    if storage == "redis":
        pytest.importorskip("redis", reason="the benchmarks use redis-py")
    if storage == "redis" and server.binary() is None:
        pytest.skip("there is no program for a Redis server")
    if maker is c.django_sessions:
        in_a_process_of_its_own(check)(maker, storage)
    else:
        check(maker, storage)


def check(maker: Maker, storage: str) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(server.started()) if storage == "redis" else None
        with cost.place(redis, payload(400, 2)) as place:
            cost.check(maker(place, storage))
    if storage == "redis":
        gc.collect()  # connections that contenders leave open are theirs, and not a later test's


@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize("storage", sql.DATABASES)
def test_so_does_every_contender_in_a_sql_database(storage: str) -> None:
    for module in ("flask_session", "flask_sqlalchemy", "django"):
        pytest.importorskip(module, reason=f"{module} is in the dependency group bench")
    if storage == "postgresql" and databases.PostgreSQL.programs() is None:
        pytest.skip(databases.MISSING[storage])
    in_a_process_of_its_own(check_sql)(storage)


def check_sql(storage: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sql.started()) if storage == "postgresql" else None
        place = stack.enter_context(cost.place(None, payload(400, 2)))
        for contender in sql.field_of(place, storage, server):
            cost.check(contender)


def test_a_contender_that_forgets_is_found_out() -> None:
    with cost.place(None, payload(100, 1)) as place:
        contender = c.minimum(place, "memory")
        contender.parts["rows"].delete = lambda sid: None

        with pytest.raises(AssertionError, match="the old ID still works"):
            cost.check(contender)


def test_a_line_of_the_table_names_all_its_contenders() -> None:
    with cost.place(None, payload(100, 1)) as place:
        field = [c.ours(place, "memory"), c.minimum(place, "memory")]
        tasks = [cost.task(contender, cost.Cell("read", "memory")) for contender in field]

        found = measure.medians(tasks, repetitions=1, turn=0.0001, server=None)

    assert set(found) == {"ours", "minimum"}


def test_ours_loses_no_update_and_the_minimum_shows_that_the_race_is_one() -> None:
    # The minimum's race needs luck with the scheduler, so it isn't asked for a loss here.
    with cost.place(None, payload(100, 1)) as place:
        ours = c.ours(place, "memory")
        cookie = cost.begin(ours)
        races._add_by_threads(ours, cookie, "t", 4, 5)

        assert races._lost(ours, cookie, 20) == "0%"


def test_a_logout_ends_ours_for_good_and_the_minimum_comes_back() -> None:
    with cost.place(None, payload(100, 1)) as place:
        assert not races._comes_back(c.ours(place, "memory"))
        assert races._comes_back(c.minimum(place, "memory"))


@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize("framework", MAKERS)
@pytest.mark.long
def test_what_is_served_does_the_work_that_it_is_timed_for(framework: str) -> None:
    if framework == "Django":
        pytest.importorskip("django", reason="django is in the dependency group test")
    for name in (BARE, "ours"):
        with (
            cost.place(None, payload(100, 1)) as place,
            load.served(framework, name, "memory", place, threads=1) as one,
        ):
            seen = one.clients.run([(one.browser, "change")] * 20)

            assert len(seen.seconds) == 20
            assert seen.refused == 0
            assert one.cpu() > 0
            if name == "ours":
                # Whichever of two changes at once came last is the one that is kept.
                assert 2 < int(one.clients.ask(one.browser, "read").body) <= 22


@pytest.mark.long
def test_the_slowest_are_looked_for_on_every_store_that_there_is() -> None:
    table = load.slowest(None, requests=20)

    assert set(table) == {BARE, "memory", "file", "sqlite"}
    assert {found["refused"] for row in table.values() for found in row.values()} == {0}


def test_an_answer_is_complete_with_its_last_byte() -> None:
    for whole in (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n10\r\n1\r\n0\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n100",
    ):
        answers = [complete(whole[:end]) for end in range(len(whole))]

        assert answers == [None] * len(whole)
        answer = complete(whole)
        assert answer is not None
        assert (answer.status, answer.body) == (200, b"100")


def test_a_client_keeps_the_cookie_that_it_was_given_last() -> None:
    browser = Browser()
    for value in ("first", "second"):
        answer = complete(
            f"HTTP/1.1 200 OK\r\nset-cookie: session={value}; Path=/\r\ncontent-length: 0\r\n\r\n".encode()
        )
        assert answer is not None
        browser.hear(answer)

    assert browser.cookie == "session=second"
    assert b"; session=second; " in browser.request("read")


def test_figures_that_cannot_be_right_are_named() -> None:
    row = {"no sessions": 3000.0, "ours": 2000.0, "Beaker": 1000.0}
    rows = {f"memory, {action}": dict(row) for action in load.ACTIONS}
    assert "as they must" in report._plausible({"WSGI": rows})
    rows["memory, read"]["Beaker"] = 1100.0

    assert "WSGI, memory, Beaker." in report._plausible({"WSGI": rows})


def test_every_line_in_which_a_peer_is_ahead_is_named() -> None:
    assert report._ahead({"a": 1.0, "b": 0.5}) == "In no line is a peer faster."
    said = report._ahead({"a": 1.02, "b": 0.5, "c": 1.5})

    assert "more than a tenth: c (1.50)" in said
    assert "a tenth at most: a (1.02)" in said
    assert "b (" not in said


def test_commands_on_the_wire_are_counted() -> None:
    two = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"

    assert wire.commands(two) == 2


def test_statements_on_the_wire_are_counted() -> None:
    query = b"Q\0\0\0\x0dSELECT 1\0"
    prepared = b"B\0\0\0\4E\0\0\0\x09\0\0\0\0\0S\0\0\0\4"

    assert sql.statements(query + prepared) == 2


def test_a_process_that_has_just_ended_uses_no_cpu() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert databases._cpu_of(ended.pid) == 0.0
    assert databases._cpu_of(os.getpid()) > 0


def test_payloads_have_the_size_and_the_fields_that_they_are_named_for() -> None:
    assert 90_000 < len(dumps(payload(100_000, 50))) <= 100_000
    assert len(payload(100_000, 50)) == 50


def test_tables_are_markdown() -> None:
    text = report.table({"read": {"ours": 1.25, "peer": 1200}}, "request")

    assert text.splitlines()[0] == "| request | ours |  peer |"
    assert text.splitlines()[2] == "| read    |  1.2 | 1,200 |"


def test_more_sessions_take_more_nodes() -> None:
    small = scale_simulation.plan(sessions=1_000_000)
    large = scale_simulation.plan(sessions=100_000_000)

    assert small.nodes < large.nodes
    assert large.bytes_per_node <= scale_simulation.USABLE * scale_simulation.NODE_BYTES


@pytest.mark.long
def test_a_failover_leaves_the_sessions_of_other_nodes_alone() -> None:
    outcome = scale_simulation.failover(
        scale_simulation.plan(sessions=100_000_000), sampled=20_000, seed=1
    )

    assert outcome.unreachable_share == pytest.approx(1 / outcome.nodes, rel=0.2)
    assert outcome.refused < outcome.requests
