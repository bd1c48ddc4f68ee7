"""The shortcuts that most requests take never skip what the table of decisions would do."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acts import destroy, login, nothing, put, read
from wsgi import Response as Answer
from wsgi import Site
from wsgi_sessions import Cookie, Lifetime, Session
from wsgi_sessions.data.fields import NO_FIELD_CHANGES
from wsgi_sessions.engine.committing import Committer, Response
from wsgi_sessions.engine.decisions import only_reads
from wsgi_sessions.session import state_of

Act = Callable[[Session], Any]


def touch(session: Session) -> None:
    session.touch()


def own_passive(value: bool) -> Act:
    def act(session: Session) -> None:
        session.passive = value

    return act


def make_persistent(session: Session) -> None:
    session.persistent = True


def relabel(session: Session) -> None:
    session.label["device"] = "kitchen"


def shorten(session: Session) -> None:
    session.lifetime = Lifetime(idle=30, absolute=300)


def keep_empty(session: Session) -> None:
    session.save(keep_empty=True)


def count(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


ACTS: dict[str, Act] = {
    "count": count,
    "nothing": nothing,
    "read": read,
    "put": put(a=2),
    "clear": lambda session: session.clear(),
    "login": login,
    "destroy": destroy,
    "regenerate": lambda session: session.regenerate(),
    "touch": touch,
    "passive": own_passive(True),
    "active": own_passive(False),
    "persistent": make_persistent,
    "label": relabel,
    "lifetime": shorten,
    "save": lambda session: session.save(),
    "keep empty": keep_empty,
    "reload": lambda session: session.reload(),
}
OPTIONS = st.fixed_dictionaries(
    {
        "rolling": st.booleans(),
        "save_uninitialized": st.booleans(),
        "rotate_after": st.sampled_from([None, 90.0]),
        "cookie": st.sampled_from([Cookie(), Cookie(persistent=True), Cookie(secure=True)]),
        "secure": st.booleans(),
    }
)
RESPONSES = st.builds(
    Response, public=st.booleans(), headers_sent=st.booleans(), final=st.booleans()
)
names = st.lists(st.sampled_from(sorted(ACTS)), max_size=3)


def shortcut_and_facts(
    session: Session, committer: Committer, now: float, response: Response
) -> tuple[bool, bool] | None:
    """What the shortcut says, and what the facts say; None where a commit asks neither."""
    state = state_of(session)
    if state is None or state.fields.changes() is not NO_FIELD_CHANGES:
        return None
    facts = committer.facts_of(state, NO_FIELD_CHANGES, response, now, failed=False)
    return committer.only_read(state, now), only_reads(facts)


@given(OPTIONS, names, st.booleans(), names, st.sampled_from([0, 10, 61, 100]), RESPONSES)
@settings(max_examples=60, deadline=None)
def test_the_shortcut_is_taken_only_where_the_facts_say_that_the_request_only_read(
    options: dict[str, Any],
    before: list[str],
    passive: bool,
    now: list[str],
    seconds: int,
    response: Response,
) -> None:
    secure = options.pop("secure")
    site = Site(passive=lambda environ: passive, **options)
    extra = {"wsgi.url_scheme": "https"} if secure else {}
    browser = site.browser(**extra)
    committer = site.middleware._engine._committer
    site.run(browser, lambda session: [ACTS[name](session) for name in before])
    site.clock.advance(seconds)
    said: list[tuple[bool, bool] | None] = []

    def work(session: Session) -> None:
        session.get("a")
        for name in now:
            ACTS[name](session)
        said.append(shortcut_and_facts(session, committer, site.clock(), response))

    site.run(browser, work)

    for one in said:
        if one is not None:
            shortcut, facts = one
            assert facts or not shortcut


@pytest.mark.parametrize(("passive", "only_read"), [(False, False), (True, True)])
def test_a_passive_request_only_reads_though_the_id_is_old(passive: bool, only_read: bool) -> None:
    site = Site(rotate_after=60, passive=lambda environ: passive)
    browser = site.browser()
    site.run(browser, put(a=1))
    site.clock.advance(61)
    committer = site.middleware._engine._committer
    said: list[object] = []

    def work(session: Session) -> None:
        session.get("a")
        said.append(shortcut_and_facts(session, committer, site.clock(), Response()))

    site.run(browser, work)

    assert said == [(only_read, only_read)]


class Numbers:
    """Takes the place of all randomness, so that two runs come to the same bytes."""

    def __init__(self) -> None:
        self.drawn = 0

    def urandom(self, size: int) -> bytes:
        self.drawn += 1
        return sha256(b"%d" % self.drawn).digest()[:size]


def in_full(
    options: dict[str, Any],
    requests: list[tuple[list[str], int, str]],
    *,
    passive: bool,
    secure: bool,
    shortcuts: bool,
) -> tuple[list[Answer], list[Any], dict[str, str]]:
    """The answers, the events, and what the store holds in the end."""
    site = Site(passive=lambda environ: passive, **options)
    browser = site.browser(**({"wsgi.url_scheme": "https"} if secure else {}))
    committer = site.middleware._engine._committer
    if not shortcuts:
        committer.only_read = lambda *_: False  # type: ignore[method-assign] # the twin
        committer.only_writes_fields = lambda *_: False  # type: ignore[method-assign] # the twin
    answers: list[Answer] = []
    with patch("os.urandom", Numbers().urandom):
        for acts, seconds, status in requests:
            site.clock.advance(seconds)
            site.status = status

            def work(session: Session, acts: list[str] = acts) -> None:
                for name in acts:
                    ACTS[name](session)

            answers.append(site.run(browser, work))
    kept = {
        key: repr((dict(record.fields), record.notes, record)) if record.owner != "" else "a list"
        for key in list(site.store.keys())
        if (record := site.store.load(key)) is not None
    }
    return answers, site.events, kept


PLAIN = {"rolling": False, "save_uninitialized": False, "cookie": Cookie(), "secure": False}


@example(
    {**PLAIN, "rotate_after": 90.0}, False, [(["count"], 0, "200 OK"), (["count"], 100, "200 OK")]
)
@given(
    OPTIONS,
    st.booleans(),
    st.lists(
        st.tuples(
            names.map(lambda acts: ["count", *acts]) | names.map(lambda acts: [*acts, "count"]),
            st.sampled_from([0, 10, 61, 100]),
            st.sampled_from(["200 OK", "200 OK", "500 Internal Server Error"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=100, deadline=None)
def test_with_or_without_shortcuts_all_comes_out_the_same(
    options: dict[str, Any], passive: bool, requests: list[tuple[list[str], int, str]]
) -> None:
    options = dict(options)
    secure = options.pop("secure")

    with_them = in_full(options, requests, passive=passive, secure=secure, shortcuts=True)
    without = in_full(options, requests, passive=passive, secure=secure, shortcuts=False)

    assert with_them == without


def test_plain_writes_take_the_shortcut() -> None:
    site = Site()
    browser = site.browser()
    committer = site.middleware._engine._committer

    with patch.object(committer, "facts_of", side_effect=AssertionError("the long line")):
        site.run(browser, put(a=1))
        site.run(browser, put(a=2))
        answer = site.run(browser, read)

    assert answer.text == repr({"a": 2})
