"""Registering and refreshing with a device in software: what works, and every attack that doesn't.

Each attack must leave the session as it was, and write nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bound_site import BoundSite
from device import Agent, Device, base64url
from device_attacks import REFRESH_ATTACKS, REGISTRATION_ATTACKS, is_refused
from wsgi import Site, environ
from wsgi_sessions.cookie import Cookie
from wsgi_sessions.device_binding import DeviceBinding
from wsgi_sessions.device_binding.binding import dump_binding, load_binding
from wsgi_sessions.device_binding.keys import key_from_jwk, unbase64url, verifies
from wsgi_sessions.device_binding.proofs import read_proof

NOW = 1_800_000_000.0
ALGORITHMS = ["ES256", "RS256"]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> BoundSite:
    return BoundSite(clock=clock)


@pytest.fixture
def agent(site: BoundSite) -> Agent:
    """A browser that has signed in and was offered to bind."""
    signed_in = Agent(site)
    signed_in.request("/login")
    return signed_in


@pytest.fixture
def bound(agent: Agent) -> Agent:
    """A browser whose session is bound."""
    assert agent.register().status == 200
    agent.request("/page")
    return agent


def only_session(site: BoundSite) -> str:
    (handle,) = site.sessions.stored
    return handle


class TestRegistering:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_key_is_bound_and_a_second_cookie_set(self, site: BoundSite, algorithm: str) -> None:
        agent = Agent(site, algorithm)
        agent.request("/login")

        answer = agent.register()

        assert answer.status == 200
        assert answer.header("Content-Type") == "application/json"
        assert answer.header("Cache-Control") == "no-store"
        assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.header("Content-Length") == str(len(answer.body))
        assert answer.header("Access-Control-Allow-Origin") is None
        assert answer.json["session_identifier"] == only_session(site)
        assert agent.second in agent.cookies
        note = load_binding(site.sessions.stored[only_session(site)].note)
        assert note is not None
        assert note.pending
        assert note.bound_at == NOW
        assert note.key == key_from_jwk(algorithm, agent.device.jwk)

    def test_it_is_confirmed_when_its_cookie_is_first_seen(self, agent: Agent) -> None:
        agent.register()

        first, second = agent.request("/page").json, agent.request("/page").json

        assert first["confirm"]
        assert first["bound"]
        assert first["proven"]
        assert not second["confirm"]
        assert second["proven"]

    @pytest.mark.parametrize("quotes", ["", '"'])
    def test_the_proof_may_stand_in_quotes(self, agent: Agent, quotes: str) -> None:
        assert agent.offer is not None
        proof = agent.device.registration(agent.offer.challenge)

        assert agent.register(f" {quotes}{proof}{quotes} ").status == 200

    def test_dbsc_12_3_coming_from_another_site_no_cookie_is_needed(
        self, site: BoundSite, agent: Agent
    ) -> None:
        agent.cookies.clear()

        assert agent.register(HTTP_SEC_FETCH_SITE="same-origin").status == 200
        assert site.sessions.writes == 1

    def test_a_browser_that_sends_no_sec_fetch_site_registers(self, agent: Agent) -> None:
        assert agent.register().status == 200

    def test_claims_and_members_that_are_unknown_are_ignored_and_not_kept(
        self, site: BoundSite, agent: Agent
    ) -> None:
        assert agent.offer is not None
        jwk = {**agent.device.jwk, "kid": "x" * 100, "use": "sig"}
        proof = agent.device.registration(
            agent.offer.challenge, payload={"aud": "https://x", "iat": 1}
        )
        other = agent.device.proof(agent.offer.challenge, jwk=jwk, kid="7")

        assert agent.register(other).status == 200
        kept = site.sessions.stored[only_session(site)].note
        site.sessions.stored[only_session(site)].note = None
        assert agent.register(proof).status == 200
        assert site.sessions.stored[only_session(site)].note == kept

    def test_a_racing_request_costs_another_attempt(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.before_bind = [lambda: None, lambda: None]

        assert agent.register().status == 200
        assert site.sessions.loads == 3

    def test_a_sign_out_that_races_wins(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.before_bind = [site.sessions.stored.clear]

        answer = agent.register()

        assert answer.status == 403
        assert site.sessions.writes == 0
        assert answer.header("Set-Cookie") is None

    def test_of_two_registrations_at_once_one_wins(self, site: BoundSite, agent: Agent) -> None:
        other = Agent(site)
        other.offer = agent.offer
        site.sessions.before_bind = [lambda: other.register()]

        assert agent.register().status == 403
        assert site.sessions.writes == 1

    def test_who_is_always_overtaken_may_try_later(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.before_bind = [lambda: None] * 5

        assert agent.register().status == 503
        assert site.sessions.writes == 0

    def test_a_store_that_is_down_is_503(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.down = True

        answer = agent.register()

        assert answer.status == 503
        assert answer.header("Retry-After") == "10"
        assert answer.header("Cache-Control") == "no-store"

    def test_a_lost_answer_locks_nobody_out(
        self, site: BoundSite, agent: Agent, clock: Clock
    ) -> None:
        agent.register()
        del agent.cookies[agent.second]
        clock.now += 100_000

        page = agent.request("/page").json

        assert not page["missing"]
        assert not page["bound"]
        assert page["session"] == only_session(site)

    def test_a_pending_key_can_be_replaced_after_the_grace(
        self, site: BoundSite, agent: Agent, clock: Clock
    ) -> None:
        agent.register()
        clock.now += 60
        agent.device = Device()

        assert agent.register().status == 200
        assert site.sessions.writes == 2


class TestAttacksOnRegistering:
    @pytest.mark.parametrize("attack", REGISTRATION_ATTACKS.values(), ids=REGISTRATION_ATTACKS)
    def test_a_wrong_proof_binds_nothing(
        self, site: BoundSite, agent: Agent, attack: Callable[[Agent, str], str]
    ) -> None:
        assert agent.offer is not None
        before = dict(site.sessions.stored)

        answer = agent.register(attack(agent, agent.offer.challenge))

        assert is_refused(answer)
        assert site.sessions.stored == before
        assert (site.sessions.loads, site.sessions.writes) == (0, 0)

    def test_without_a_proof_nothing_is_bound(self, site: BoundSite, agent: Agent) -> None:
        assert agent.offer is not None

        assert is_refused(agent.request(agent.offer.path, "POST"))
        assert site.sessions.loads == 0

    def test_another_site_can_not_make_a_browser_register(
        self, site: BoundSite, agent: Agent
    ) -> None:
        answer = agent.register(HTTP_SEC_FETCH_SITE="cross-site")

        assert answer.status == 403
        assert is_refused(answer)
        assert site.sessions.loads == 0

    def test_a_stale_challenge_binds_nothing(
        self, site: BoundSite, agent: Agent, clock: Clock
    ) -> None:
        clock.now += 301

        assert is_refused(agent.register())
        assert site.sessions.loads == 0

    def test_another_sessions_challenge_binds_nothing(self, site: BoundSite, agent: Agent) -> None:
        other = Agent(site)
        other.request("/login")
        agent.offer = other.offer

        assert is_refused(agent.register())
        assert site.sessions.loads == 0

    def test_a_challenge_to_refresh_binds_nothing(self, site: BoundSite, agent: Agent) -> None:
        challenge = site.binder.refresh_challenges.issue(only_session(site), NOW)

        assert is_refused(agent.register(agent.device.registration(challenge)))
        assert site.sessions.loads == 0

    def test_a_registration_that_is_replayed_binds_nothing_more(
        self, site: BoundSite, bound: Agent
    ) -> None:
        before = site.sessions.stored[only_session(site)].note

        assert is_refused(bound.register())
        assert is_refused(Agent.register(bound, HTTP_COOKIE=""))
        assert site.sessions.stored[only_session(site)].note == before
        assert site.sessions.writes == 1

    def test_no_other_key_takes_the_place_of_one_that_is_bound(
        self, site: BoundSite, bound: Agent, clock: Clock
    ) -> None:
        before = site.sessions.stored[only_session(site)].note
        bound.device = Device()
        clock.now += 200

        assert is_refused(bound.register())
        assert site.sessions.stored[only_session(site)].note == before

    def test_a_session_that_is_over_is_not_bound(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.stored.clear()

        assert is_refused(agent.register())
        assert site.sessions.stored == {}

    def test_a_session_without_an_owner_is_not_bound(self, site: BoundSite, agent: Agent) -> None:
        site.sessions.stored[only_session(site)].owner = None

        assert is_refused(agent.register())
        assert site.sessions.writes == 0


class TestRefreshing:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_challenge_is_signed_and_the_cookie_comes_anew(
        self, site: BoundSite, algorithm: str, clock: Clock
    ) -> None:
        agent = Agent(site, algorithm)
        agent.request("/login")
        agent.register()
        agent.request("/page")
        clock.now += 700
        assert agent.request("/page").json["missing"]

        asked = agent.refresh()
        answer = agent.refresh()

        assert asked.status == 403
        assert asked.header("Set-Cookie") is None
        assert answer.status == 200
        assert answer.json == agent.instructions
        assert answer.header("Cache-Control") == "no-store"
        assert agent.request("/page").json["proven"]

    def test_it_costs_one_load_and_no_write(self, site: BoundSite, bound: Agent) -> None:
        bound.refresh()
        loads, writes = site.sessions.loads, site.sessions.writes

        assert bound.refresh().status == 200
        assert (site.sessions.loads, site.sessions.writes) == (loads + 1, writes)

    def test_the_answer_brings_the_next_challenge(self, bound: Agent, clock: Clock) -> None:
        bound.refresh()
        first = bound.challenge
        clock.now += 500
        bound.refresh()
        clock.now += 600

        assert bound.challenge != first
        assert bound.refresh().status == 200

    def test_the_challenge_names_the_session(self, site: BoundSite, bound: Agent) -> None:
        header = bound.refresh().header("Secure-Session-Challenge")

        assert header is not None
        assert header.endswith(f';id="{only_session(site)}"')

    @pytest.mark.parametrize("quotes", ["", '"'])
    def test_the_identifier_may_stand_in_quotes(
        self, site: BoundSite, bound: Agent, quotes: str
    ) -> None:
        bound.refresh()
        identifier = f"{quotes}{only_session(site)}{quotes}"

        assert bound.refresh(HTTP_SEC_SECURE_SESSION_ID=identifier).status == 200

    def test_dbsc_12_2_it_needs_no_cookie(self, bound: Agent) -> None:
        bound.cookies.clear()
        bound.refresh()

        assert bound.refresh().status == 200

    def test_a_leftover_cookie_beside_the_right_one_does_no_harm(
        self, site: BoundSite, bound: Agent
    ) -> None:
        bound.refresh()
        cookies = f"__Host-s={'0' * 64}; __Host-s={only_session(site)}"

        assert bound.refresh(HTTP_COOKIE=cookies).status == 200

    def test_a_store_that_is_down_is_503_and_nothing_ends(
        self, site: BoundSite, bound: Agent
    ) -> None:
        bound.refresh()
        site.sessions.down = True

        answer = bound.refresh()
        site.sessions.down = False

        assert answer.status == 503
        assert b"continue" not in answer.body
        assert bound.refresh().status == 200

    def test_only_a_session_that_is_gone_is_ended(self, site: BoundSite, bound: Agent) -> None:
        handle = only_session(site)
        site.sessions.stored.clear()

        answer = bound.refresh()

        assert answer.status == 200
        assert answer.json == {"session_identifier": handle, "continue": False}
        assert answer.header("Set-Cookie") is None

    def test_one_that_is_gone_is_ended_also_where_the_browser_has_another_by_now(
        self, site: BoundSite, bound: Agent
    ) -> None:
        handle = only_session(site)
        site.sessions.stored.clear()

        answer = bound.refresh(HTTP_COOKIE=f"__Host-s={'0' * 64}")

        assert answer.json == {"session_identifier": handle, "continue": False}
        assert answer.header("Set-Cookie") is None

    def test_a_stale_proof_is_answered_with_a_new_challenge(
        self, bound: Agent, clock: Clock
    ) -> None:
        bound.refresh()
        clock.now += 1201

        assert bound.refresh().status == 403
        assert bound.refresh().status == 200

    def test_a_pending_binding_can_be_refreshed(self, site: BoundSite, agent: Agent) -> None:
        agent.register()
        agent.refresh()

        assert agent.refresh().status == 200
        assert site.sessions.writes == 1

    def test_what_is_excluded_spares_no_proof(self, clock: Clock) -> None:
        site = BoundSite(DeviceBinding(exclude=["/static/"]), clock=clock)
        agent = Agent(site)
        agent.request("/login")
        agent.register()
        agent.request("/page")
        del agent.cookies[agent.second]
        clock.now += 60

        assert agent.request("/static/x").json["missing"]


class TestAttacksOnRefreshing:
    @pytest.mark.parametrize("attack", REFRESH_ATTACKS.values(), ids=REFRESH_ATTACKS)
    def test_a_wrong_proof_gets_no_cookie(
        self, site: BoundSite, bound: Agent, attack: Callable[[Agent, str], str]
    ) -> None:
        bound.refresh()
        assert bound.challenge is not None
        before = dict(site.sessions.stored)
        writes = site.sessions.writes

        answer = bound.refresh(attack(bound, bound.challenge))

        assert is_refused(answer)
        assert site.sessions.stored == before
        assert site.sessions.writes == writes

    def test_another_sessions_challenge_is_no_good(self, site: BoundSite, bound: Agent) -> None:
        other = Agent(site)
        other.request("/login")
        other.register()
        other.refresh()
        assert other.challenge is not None

        assert is_refused(bound.refresh(bound.device.proof(other.challenge)))

    def test_a_challenge_to_register_is_no_good(self, bound: Agent) -> None:
        assert bound.offer is not None

        assert is_refused(bound.refresh(bound.device.proof(bound.offer.challenge)))

    def test_a_proof_of_another_session_of_the_same_device_is_no_good(
        self, site: BoundSite, bound: Agent
    ) -> None:
        other = Agent(site)
        other.device = bound.device
        other.request("/login")
        other.register()
        other.refresh()
        assert other.challenge is not None
        stolen = other.device.proof(other.challenge)

        assert is_refused(bound.refresh(stolen))

    @pytest.mark.parametrize("identifier", ["", "x", "0" * 63, "0" * 65, "A" * 64, "../" * 20])
    def test_an_identifier_that_is_not_a_handle_asks_no_store(
        self, site: BoundSite, bound: Agent, identifier: str
    ) -> None:
        loads = site.sessions.loads

        assert is_refused(bound.refresh(HTTP_SEC_SECURE_SESSION_ID=identifier))
        assert site.sessions.loads == loads

    def test_a_missing_identifier_asks_no_store(self, site: BoundSite, bound: Agent) -> None:
        assert is_refused(bound.request(bound.instructions["refresh_url"], "POST"))

    def test_another_site_can_not_make_a_browser_refresh(
        self, site: BoundSite, bound: Agent
    ) -> None:
        loads = site.sessions.loads

        answer = bound.refresh(HTTP_SEC_FETCH_SITE="cross-site")

        assert answer.status == 403
        assert is_refused(answer)
        assert answer.header("Secure-Session-Challenge") is None
        assert site.sessions.loads == loads

    def test_a_browser_that_has_another_session_now_gets_no_cookie_of_the_old_one(
        self, site: BoundSite, bound: Agent
    ) -> None:
        bound.refresh()
        bound.cookies["__Host-s"] = site.begin()

        answer = bound.refresh()

        assert answer.status == 400
        assert is_refused(answer)

    def test_a_session_that_is_not_bound_gets_no_cookie(
        self, site: BoundSite, bound: Agent
    ) -> None:
        bound.refresh()
        site.sessions.stored[only_session(site)].note = None

        answer = bound.refresh()

        assert is_refused(answer)
        assert answer.header("Secure-Session-Challenge") is None

    def test_cookies_copied_to_another_browser_are_of_no_use_after_the_second_ends(
        self, site: BoundSite, bound: Agent, clock: Clock
    ) -> None:
        thief = Agent(site)
        thief.cookies = dict(bound.cookies)
        thief.instructions = bound.instructions
        assert thief.request("/page").json["proven"]
        clock.now += 700

        thief.refresh()
        assert is_refused(thief.refresh())
        assert thief.request("/page").json["missing"]

    def test_a_captured_proof_is_worth_one_short_cookie_at_most(
        self, site: BoundSite, bound: Agent, clock: Clock
    ) -> None:
        bound.refresh()
        assert bound.challenge is not None
        captured = bound.device.proof(bound.challenge)
        thief = Agent(site)
        thief.cookies = dict(bound.cookies)
        thief.instructions = bound.instructions

        # Accepted, and documented: nothing is stored of a challenge.
        assert thief.refresh(captured).status == 200
        clock.now += 1201
        assert is_refused(thief.refresh(captured))


class TestWhichRequestsAreOurs:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/.well-known/device-binding/register"),
            ("HEAD", "/.well-known/device-binding/refresh"),
            ("OPTIONS", "/.well-known/device-binding/register"),
            ("PUT", "/.well-known/device-binding/register"),
            ("POST", "/.well-known/device-binding"),
            ("POST", "/.well-known/device-binding/"),
            ("POST", "/.well-known/device-binding/other"),
            ("POST", "/.well-known/device-binding/register/"),
            ("POST", "/.well-known/device-bindings"),
            ("POST", "/page"),
            ("POST", ""),
        ],
    )
    def test_all_others_are_the_apps(self, agent: Agent, method: str, path: str) -> None:
        answer = agent.request(path, method)

        assert answer.status == 200
        assert answer.json["session"] is not None

    def test_both_work_under_a_script_name(self, clock: Clock) -> None:
        site = BoundSite(cookie=Cookie("s", path="/app"), clock=clock)
        agent = Agent(site, script_name="/app")
        agent.request("/app/login")

        assert agent.offer is not None
        assert agent.offer.path == "/app/.well-known/device-binding/register"
        assert agent.register().status == 200
        assert agent.instructions["refresh_url"] == "/app/.well-known/device-binding/refresh"
        assert agent.refresh().status == 403
        assert agent.refresh().status == 200


@given(
    st.text(max_size=300)
    | st.tuples(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80)).map(
        lambda parts: ".".join(map(base64url, parts))
    )
)
def test_any_text_is_safe_to_read_as_a_proof(text: str) -> None:
    assert read_proof(text) is None


@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e"]), st.text(max_size=50)))
def test_any_jwk_is_safe_to_read(jwk: dict[str, str]) -> None:
    assert key_from_jwk("ES256", jwk) is None
    assert key_from_jwk("RS256", jwk) is None


def test_base64url_of_every_length_is_read() -> None:
    for length in range(10):
        raw = bytes(range(length))
        assert unbase64url(base64url(raw)) == raw
    assert unbase64url(base64.b64encode(b"\xff\xfe\xfd\xfc").decode()) is None


def test_a_key_that_was_damaged_in_the_store_verifies_nothing(
    site: BoundSite, bound: Agent
) -> None:
    note = load_binding(site.sessions.stored[only_session(site)].note)
    assert note is not None
    damaged = note.key._replace(material="A" * 86)
    site.sessions.stored[only_session(site)].note = dump_binding(note._replace(key=damaged))
    bound.refresh()

    assert not verifies(damaged, bytes(64), b"")
    assert is_refused(bound.refresh())


def test_where_nothing_is_bound_no_device_is_answered() -> None:
    """Adapters ask only where devices are bound; the engine itself doesn't rely on it."""
    middleware = Site().middleware
    asked = environ(REQUEST_METHOD="POST", PATH_INFO="/.well-known/device-binding/register")

    assert middleware._engine.answer_device(asked, middleware._site.transport) is None
