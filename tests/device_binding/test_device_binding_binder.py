"""What is sent and what is taken back: offers, challenges, the second cookie, the instructions."""

from __future__ import annotations

import secrets
import string
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import read_offer
from wsgi_sessions.cookie import Cookie
from wsgi_sessions.device_binding import Binder, DeviceBinding, protocol
from wsgi_sessions.device_binding.seals import Contents, Seal

NOW = 1_800_000_000.0
OLD, NEW = b"o" * 32, b"n" * 32
HANDLE, OTHER = secrets.token_hex(32), secrets.token_hex(32)
COOKIE = Cookie("__Host-s", secure=True)


def binder(*keys: bytes, cookie: Cookie = COOKIE, **options: Any) -> Binder:
    return Binder(DeviceBinding(**options), cookie, keys or (NEW,))


def second(of: Binder, handle: str = HANDLE, now: float = NOW) -> str:
    """The Cookie header that a browser makes of the Set-Cookie."""
    return of.set_cookie(handle, now=now)[1].partition(";")[0]


class TestSeal:
    def test_what_was_sealed_comes_back(self) -> None:
        seal = Seal((NEW,), "a")

        assert seal.open(seal.seal(HANDLE, 17)) == Contents(HANDLE, 17)
        assert seal.time_of(seal.seal(HANDLE, 17), HANDLE) == 17

    def test_a_seal_has_no_time_for_another_handle(self) -> None:
        seal = Seal((NEW,), "a")

        assert seal.time_of(seal.seal(HANDLE, 17), OTHER) is None

    @pytest.mark.parametrize(
        "spelling",
        [
            lambda text: text.translate(str.maketrans("-_", "+/")),
            lambda text: text + "=",
            lambda text: text + "AAAA",
            lambda text: text[:-4],
            lambda text: text[:-2] + "==",
            lambda text: text + " ",
            lambda text: text[:50] + "\n" + text[50:],
            lambda text: text[:-1] + "\xe9",
        ],
    )
    def test_each_seal_has_one_spelling(self, spelling: Callable[[str], str]) -> None:
        seal = Seal((NEW,), "a")
        # The first time whose seal has a character that the two alphabets spell differently.
        text = next(made for time in range(99) if "-" in (made := seal.seal(HANDLE, time)))

        assert seal.open(spelling(text)) is None
        assert seal.time_of(spelling(text), HANDLE) is None

    def test_each_purpose_and_each_secret_has_seals_of_its_own(self) -> None:
        text = Seal((NEW,), "a").seal(HANDLE, 17)

        assert Seal((NEW,), "b").open(text) is None
        assert Seal((OLD,), "a").open(text) is None

    def test_an_older_secret_still_opens_and_the_newest_seals(self) -> None:
        both = Seal((NEW, OLD), "a")

        assert both.open(Seal((OLD,), "a").seal(HANDLE, 17)) == Contents(HANDLE, 17)
        assert Seal((NEW,), "a").open(both.seal(HANDLE, 17)) == Contents(HANDLE, 17)

    @pytest.mark.parametrize("place", range(92))
    def test_no_character_can_be_changed(self, place: int) -> None:
        seal = Seal((NEW,), "a")
        text = seal.seal(HANDLE, 17)
        other = "A" if text[place] != "A" else "B"

        assert seal.open(text[:place] + other + text[place + 1 :]) is None

    @given(
        st.text() | st.text(string.ascii_letters + string.digits + "_-", min_size=92, max_size=92)
    )
    def test_any_text_is_safe_to_ask_about(self, text: str) -> None:
        assert Seal((NEW,), "a").open(text) is None
        assert Seal((NEW,), "a").time_of(text, HANDLE) is None


class TestOffer:
    def test_it_names_both_algorithms_the_path_and_a_challenge(self) -> None:
        header = binder().offer(HANDLE, now=NOW, script_name="")

        assert header is not None
        assert header[0] == "Secure-Session-Registration"
        offer = read_offer(header[1])
        assert offer.algorithms == ("ES256", "RS256")
        assert offer.path == "/.well-known/device-binding/register"
        assert binder().register_challenges.handle_of(offer.challenge, NOW) == HANDLE

    @pytest.mark.parametrize(
        ("script_name", "path"),
        [
            ("/app", "/app/.well-known/device-binding/register"),
            # As a WSGI server hands on /ä%20%22b: Latin-1 of UTF-8, unquoted (PEP 3333).
            ('/Ã¤ "b', "/%C3%A4%20%22b/.well-known/device-binding/register"),
            ("/a;b", "/a;b/.well-known/device-binding/register"),
        ],
    )
    def test_the_path_has_the_script_name_in_front(self, script_name: str, path: str) -> None:
        header = binder().offer(HANDLE, now=NOW, script_name=script_name)

        assert header is not None
        assert read_offer(header[1]).path == path

    @pytest.mark.parametrize(
        ("cookie_path", "script_name", "reaches"),
        [
            ("/app", "/app", True),
            ("/app", "", False),
            ("/app", "/apple", False),
            ("/app/in", "/app", False),
        ],
    )
    def test_it_is_made_only_where_the_cookie_goes(
        self, cookie_path: str, script_name: str, reaches: bool
    ) -> None:
        made = binder(cookie=Cookie(path=cookie_path)).offer(
            HANDLE, now=NOW, script_name=script_name
        )

        assert (made is not None) == reaches


class TestChallenges:
    @pytest.mark.parametrize(("age", "good"), [(0, 1), (300, 1), (301, 0), (-60, 1), (-61, 0)])
    def test_one_to_register_is_good_for_five_minutes(self, age: int, good: int) -> None:
        challenges = binder().register_challenges

        found = challenges.handle_of(challenges.issue(HANDLE, NOW), NOW + age)

        assert found == (HANDLE if good else None)

    @pytest.mark.parametrize(("age", "good"), [(0, 1), (900, 1), (901, 0)])
    def test_one_to_refresh_is_good_for_ten_minutes_more_than_the_cookie(
        self, age: int, good: int
    ) -> None:
        challenges = binder(max_age=300).refresh_challenges

        found = challenges.handle_of(challenges.issue(HANDLE, NOW), NOW + age)

        assert found == (HANDLE if good else None)

    def test_they_are_not_good_for_each_other_nor_as_a_cookie(self) -> None:
        ours = binder()
        register = ours.register_challenges.issue(HANDLE, NOW + 300)
        refresh = ours.refresh_challenges.issue(HANDLE, NOW + 300)

        assert ours.refresh_challenges.handle_of(register, NOW + 300) is None
        assert ours.register_challenges.handle_of(refresh, NOW + 300) is None
        for text in (register, refresh):
            assert not ours.proves(f"__Host-s-bound={text}", HANDLE, now=NOW)

    def test_another_middleware_with_the_same_secret_has_its_own(self) -> None:
        theirs = binder(cookie=Cookie("other")).register_challenges.issue(HANDLE, NOW)

        assert binder().register_challenges.handle_of(theirs, NOW) is None

    def test_challenges_of_an_older_secret_still_count(self) -> None:
        old = binder(OLD).refresh_challenges.issue(HANDLE, NOW)

        assert binder(NEW, OLD).refresh_challenges.handle_of(old, NOW) == HANDLE


class TestSecondCookie:
    @pytest.mark.parametrize(
        ("first", "name"),
        [
            ("session", "session-bound"),
            ("__Host-s", "__Host-s-bound"),
            ("__Secure-s", "__Secure-s-bound"),
            ("__Http-s", "__Http-s-bound"),
            # dbsc.md 12.5: Chromium doesn't bind a cookie with this prefix.
            ("__Host-Http-s", "__Host-s-bound"),
            ("__hOST-hTTP-s", "__Host-s-bound"),
        ],
    )
    def test_it_is_named_after_the_first(self, first: str, name: str) -> None:
        assert binder(cookie=Cookie(first, secure=True)).second_cookie.name == name

    @pytest.mark.parametrize(
        "first",
        [
            Cookie(path="/app", samesite="Strict"),
            Cookie(secure=True, samesite="None"),
            Cookie(httponly=False),
        ],
        ids=["strict", "none", "scripts"],
    )
    def test_it_has_the_attributes_of_the_first_and_is_always_secure(self, first: Cookie) -> None:
        made = binder(cookie=first).second_cookie

        assert (made.path, made.samesite, made.httponly) == (
            first.path,
            first.samesite,
            first.httponly,
        )
        assert made.secure is True

    def test_it_lives_for_max_age_and_is_good_for_30_seconds_more(self) -> None:
        ours = binder(max_age=300)
        header = ours.set_cookie(HANDLE, now=NOW)
        sent = second(ours)

        assert header[0] == "Set-Cookie"
        assert "; Max-Age=300;" in header[1]
        assert ours.proves(sent, HANDLE, now=NOW + 329)
        assert not ours.proves(sent, HANDLE, now=NOW + 330)

    def test_it_proves_no_other_session(self) -> None:
        assert not binder().proves(second(binder()), OTHER, now=NOW)

    def test_of_several_one_good_one_is_enough(self) -> None:
        ours = binder()
        good = second(ours)
        bad = "__Host-s-bound=x"

        assert ours.proves(f"{bad}; {second(ours, OTHER)}; {good}; {bad}", HANDLE, now=NOW)

    @pytest.mark.parametrize("header", [None, "", "a=b", "__Host-s-bound", "__Host-s-bound=", 7])
    def test_without_it_nothing_is_proven(self, header: object) -> None:
        assert not binder().proves(header, HANDLE, now=NOW)

    @pytest.mark.parametrize(
        ("header", "sent"),
        [
            (None, False),
            ("", False),
            ("__Host-s=a", False),
            ("x__Host-s-bound=a", False),
            ("a=b; __Host-s-bound=", True),
            ("__Host-s-bound=leftover", True),
        ],
    )
    def test_whether_one_is_sent_at_all_is_told(self, header: str | None, sent: bool) -> None:
        assert binder().is_sent(header) == sent

    def test_one_from_a_clock_that_was_wrong_is_not_good_for_ever(self) -> None:
        ours = binder()

        assert ours.proves(second(ours, now=NOW + 60), HANDLE, now=NOW)
        assert not ours.proves(second(ours, now=NOW + 61), HANDLE, now=NOW)

    def test_one_signed_with_an_older_secret_is_good(self) -> None:
        assert binder(NEW, OLD).proves(second(binder(OLD)), HANDLE, now=NOW)

    def test_expiring_repeats_its_attributes(self) -> None:
        name, value = binder().expire_cookie()

        assert name == "Set-Cookie"
        assert value.startswith("__Host-s-bound=; ")
        assert "Max-Age=0; Secure; HttpOnly; Path=/; SameSite=Lax" in value


def test_the_instructions_say_all_that_a_browser_needs() -> None:
    ours = binder(exclude=["/static/"], initiators=["idp.example.com"], path="/b")

    told = protocol.instructions(ours.settings, ours.second_cookie, HANDLE, "/app")

    assert told == {
        "session_identifier": HANDLE,
        "refresh_url": "/app/b/refresh",
        "scope": {
            "include_site": False,
            "scope_specification": [{"type": "exclude", "domain": "*", "path": "/app/static/"}],
        },
        "credentials": [
            {
                "type": "cookie",
                "name": "__Host-s-bound",
                "attributes": "Secure; HttpOnly; Path=/; SameSite=Lax",
            }
        ],
        "allowed_refresh_initiators": ["idp.example.com"],
    }


def test_importing_it_does_not_load_cryptography() -> None:
    code = "import sys, wsgi_sessions.device_binding; print('cryptography' in sys.modules)"

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None
    )

    assert told.stdout.strip() == "False"
