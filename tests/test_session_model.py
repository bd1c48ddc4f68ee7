"""A session over many requests, compared with a plain model of it.

Two browsers and two servers share a store; the browsers set, change, read, sign in, move and end
sessions; someone revokes, secrets are rotated, time jumps, stolen cookies are replayed. After each
step the data, the owner and the cookie jar are what the model says.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from effort import effort
from wsgi import Browser, Handler, Response
from wsgi_sessions import Lifetime, Session, SessionMiddleware
from records import key_of
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FakeClock

IDLE, ABSOLUTE, TOUCH, ROTATE, GRACE = 1000.0, 5000.0, 60.0, 700.0, 30.0
NAMES = st.sampled_from(["a", "b", "cart"])
VALUES = st.sampled_from([0, 1, "x", None, True, 1.5, [1], {"k": [1]}, (1, 2), b"raw"])
OWNERS = st.sampled_from(["ann", "bob"])
WHO = st.sampled_from([0, 1])


@dataclass(eq=False)
class Model:
    """What a session ought to be."""

    id: str
    now: float
    data: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    alive: bool = True

    def __post_init__(self) -> None:
        self.started = self.issued = self.used = self.now

    def lives(self, now: float) -> bool:
        return self.alive and now < min(self.used + IDLE, self.started + ABSOLUTE)


class Sessions(RuleBasedStateMachine):
    """The machine: each rule is one request, or something that happens in between."""

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.store = MemoryStore()
        self.secrets = [f"secret number {0:30}"]
        self.work: Handler = repr
        self._start_servers()
        self.browsers = [Browser(self.servers[0]), Browser(self.servers[1])]
        self.by_id: dict[str, Model] = {}
        self.grace: dict[str, tuple[Model, str, float]] = {}
        """By retired ID: the session, its direct successor, and until when it forwards."""
        self.signed: dict[str, str] = {}
        self.stash: list[dict[str, str]] = []

    def _start_servers(self) -> None:
        self.servers = [
            SessionMiddleware(
                self._app,
                secret_key=self.secrets[:2],
                store=self.store,
                clock=self.clock,
                lifetime=Lifetime(idle=IDLE, absolute=ABSOLUTE),
                touch_interval=TOUCH,
                rotate_after=ROTATE,
            )
            for _ in range(2)
        ]

    def _app(self, made: dict[str, Any], start_response: Any) -> list[bytes]:
        session: Session = made["wsgi_sessions.session"]
        seen = repr((dict(session), session.owner))
        self.work(session)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [seen.encode()]

    # The model's side of a request

    def _lookup(self, browser: Browser) -> Model | None:
        token = browser.cookies.get("session")
        if token is None or self.signed[token] not in self.secrets[:2]:
            return None
        session_id = token.partition(".")[0]
        model = self.by_id.get(session_id)
        if model is None and session_id in self.grace:
            moved, successor, until = self.grace[session_id]
            model = moved if self.clock.now < until and moved.id == successor else None
        return model if model is not None and model.lives(self.clock.now) else None

    def _request(self, who: int, work: Handler) -> tuple[Model | None, Browser, Response]:
        """One request; checks what the app saw against the model as it was."""
        browser = self.browsers[who]
        model = self._lookup(browser)
        self.work = work
        response = browser.get("/", check=False)
        data, owner = ast.literal_eval(response.text)
        assert data == (model.data if model else {})
        assert owner == (model.owner if model else None)
        token = browser.cookies.get("session")
        if token is not None and token not in self.signed:
            self.signed[token] = self.secrets[0]
        return model, browser, response

    def _id(self, browser: Browser) -> str | None:
        token = browser.cookies.get("session")
        return None if token is None else token.partition(".")[0]

    def _used(self, model: Model, browser: Browser, *, changed: bool) -> None:
        """A request that used this session and kept its owner is over."""
        now = self.clock.now
        if not model.data and model.owner is None:
            self._end(model)
            assert self._id(browser) is None
            return
        if now - model.issued >= ROTATE:
            old = model.id
            self._move(model, browser)
            self.grace[old] = (model, model.id, now + GRACE)
        elif changed or now - model.used >= TOUCH:
            model.used = now
        assert self._id(browser) == model.id

    def _move(self, model: Model, browser: Browser) -> None:
        moved = self._id(browser)
        assert moved is not None
        assert moved != model.id
        del self.by_id[model.id]
        model.id = moved
        model.issued = model.used = self.clock.now
        self.by_id[moved] = model

    def _end(self, model: Model) -> None:
        model.alive = False
        self.by_id.pop(model.id, None)

    def _begin(self, browser: Browser, data: dict[str, Any], owner: str | None = None) -> None:
        new = self._id(browser)
        assert new is not None
        assert new not in self.by_id, "an ID that nobody had"
        self.by_id[new] = Model(new, self.clock.now, data, owner)

    # Requests

    @rule(who=WHO)
    def read(self, who: int) -> None:
        before = dict(self.browsers[who].cookies)
        model, browser, _ = self._request(who, lambda s: None)
        if model is None:
            assert browser.cookies == before, "a mere read changes no cookie of a dead session"
        else:
            self._used(model, browser, changed=False)

    @rule(who=WHO, name=NAMES, value=VALUES)
    def put(self, who: int, name: str, value: Any) -> None:
        def work(session: Session) -> None:
            session[name] = value

        model, browser, _ = self._request(who, work)
        if model is None:
            self._begin(browser, {name: value})
            return
        # True == 1 in Python, but not for a session.
        changed = name not in model.data or repr(model.data[name]) != repr(value)
        model.data = {**model.data, name: value}
        self._used(model, browser, changed=changed)

    @rule(who=WHO)
    def nested_change(self, who: int) -> None:
        def work(session: Session) -> None:
            cart = session.get("cart")
            if isinstance(cart, list):
                cart.append(len(cart))

        model, browser, _ = self._request(who, work)
        if model is None:
            return
        cart = model.data.get("cart")
        if isinstance(cart, list):
            model.data = {**model.data, "cart": [*cart, len(cart)]}
        self._used(model, browser, changed=isinstance(cart, list))

    @rule(who=WHO, name=NAMES)
    def remove(self, who: int, name: str) -> None:
        model, browser, _ = self._request(who, lambda s: s.pop(name, None))
        if model is None:
            return
        changed = name in model.data
        model.data = {key: value for key, value in model.data.items() if key != name}
        self._used(model, browser, changed=changed)

    @rule(who=WHO)
    def clear(self, who: int) -> None:
        model, browser, _ = self._request(who, lambda s: s.clear())
        if model is None:
            return
        changed = bool(model.data)
        model.data = {}
        self._used(model, browser, changed=changed)

    @rule(who=WHO)
    def increment(self, who: int) -> None:
        model, browser, _ = self._request(who, lambda s: s.increment("n"))
        if model is None:
            self._begin(browser, {"n": 1})
            return
        model.data = {**model.data, "n": model.data.get("n", 0) + 1}
        self._used(model, browser, changed=True)

    @rule(who=WHO, owner=OWNERS)
    def login(self, who: int, owner: str) -> None:
        model, browser, _ = self._request(who, lambda s: s.login(owner))
        if model is None:
            self._begin(browser, {}, owner)
            return
        self._move(model, browser)
        model.owner = owner
        model.started = self.clock.now

    @rule(who=WHO)
    def sign_out_but_keep(self, who: int) -> None:
        model, browser, _ = self._request(who, lambda s: setattr(s, "owner", None))
        if model is None:
            return
        if model.owner is None:
            self._used(model, browser, changed=False)
        elif model.data:
            model.owner = None
            self._move(model, browser)
        else:
            self._end(model)
            assert self._id(browser) is None

    @rule(who=WHO)
    def regenerate(self, who: int) -> None:
        model, browser, _ = self._request(who, lambda s: s.regenerate())
        if model is not None:
            self._move(model, browser)

    @rule(who=WHO)
    def destroy(self, who: int) -> None:
        model, browser, _ = self._request(who, lambda s: s.destroy())
        if model is not None:
            self._end(model)
        assert self._id(browser) is None

    @rule(who=WHO)
    def forget_cookies(self, who: int) -> None:
        self.browsers[who].cookies.clear()

    @rule(who=WHO)
    def steal(self, who: int) -> None:
        self.stash.append(dict(self.browsers[who].cookies))

    @rule(who=WHO, which=st.integers(0, 30))
    def replay(self, who: int, which: int) -> None:
        if self.stash:
            self.browsers[who].cookies = dict(self.stash[which % len(self.stash)])

    @rule(seconds=st.sampled_from([1, 29, 30, 31, 701]))
    def come_late(self, seconds: int) -> None:
        """A rotation that one browser gets, while the other comes with the old ID after a time."""
        self.put(0, "a", seconds)
        self.browsers[1].cookies = dict(self.browsers[0].cookies)
        self.clock.advance(ROTATE)
        self.read(0)
        self.clock.advance(seconds)
        self.read(1)

    # What happens in between

    @rule(seconds=st.sampled_from([1, 29, 30, 61, 400, 701, 1000, 5001, -20]))
    def time_passes(self, seconds: int) -> None:
        if seconds < 0 and not all(m.lives(self.clock.now) for m in self.by_id.values()):
            return  # what has expired may have been swept already, so it isn't said what comes back
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 30))
    def revoke(self, which: int) -> None:
        models = list(self.by_id.values())
        if models:
            model = models[which % len(models)]
            lived = model.lives(self.clock.now)
            assert self.servers[0].registry.revoke(key_of(model.id)) is lived
            if lived:
                self._end(model)

    @rule(owner=OWNERS)
    def revoke_all(self, owner: str) -> None:
        mine = [m for m in self.by_id.values() if m.owner == owner and m.lives(self.clock.now)]
        assert self.servers[1].registry.revoke_all(owner) == len(mine)
        for model in mine:
            self._end(model)

    @rule()
    def rotate_secrets(self) -> None:
        self.secrets.insert(0, f"secret number {len(self.secrets):30}")
        self._start_servers()
        for browser, server in zip(self.browsers, self.servers, strict=True):
            browser.app = server

    @rule()
    def purge(self) -> None:
        self.servers[0].registry.purge_expired()

    # What always holds

    @invariant()
    def the_registry_knows_the_living(self) -> None:
        if not hasattr(self, "clock"):
            return
        living = [model for model in self.by_id.values() if model.lives(self.clock.now)]
        registry = self.servers[0].registry
        assert set(registry) == {key_of(model.id) for model in living}
        for owner in ("ann", "bob"):
            mine = {key_of(model.id) for model in living if model.owner == owner}
            assert {info.handle for info in registry.sessions(owner)} == mine


Sessions.TestCase.settings = effort(150, steps=40)
TestSessions = Sessions.TestCase
