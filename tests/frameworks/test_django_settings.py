"""Django's settings as options of ours, system checks, and override_settings."""

# Models can be imported once Django is set up, and not before.
# ruff: noqa: E402 # as the line above says

from __future__ import annotations

from typing import Any

import pytest

from django_site import SECRET, set_up, site

set_up()

from django.apps import apps
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from wsgi_sessions import Cookie, Lifetime
from wsgi_sessions.data.codec import JSONCodec
from wsgi_sessions.django import SessionStore, sessions
from wsgi_sessions.django.checks import check_settings
from wsgi_sessions.django.settings import options_from_settings
from wsgi_sessions.errors import StoreError


def found(**changed: Any) -> list[str]:
    with override_settings(**changed):
        return [message.id for message in check_settings()]


GOOD = {"store": "memory://"}
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


def test_good_settings_have_no_complaints() -> None:
    assert found(WSGI_SESSIONS=GOOD) == []
    assert apps.get_app_config("wsgi_sessions").verbose_name == "WSGI sessions"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["wsgi_sessions.W001"]),
        ({"WSGI_SESSIONS": {"stroe": "x"}}, ["wsgi_sessions.E001", "wsgi_sessions.W001"]),
        ({"WSGI_SESSIONS": {7: "x"}}, ["wsgi_sessions.E001", "wsgi_sessions.W001"]),
        ({"WSGI_SESSIONS": "redis://"}, ["wsgi_sessions.E001", "wsgi_sessions.W001"]),
        ({"WSGI_SESSIONS": GOOD, "SECRET_KEY": "short"}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SECRET_KEY_FALLBACKS": [b"short"]}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_NAME": "a b"}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_AGE": "x"}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_AGE": None}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_AGE": True}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_AGE": 0}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_COOKIE_AGE": float("nan")}, ["wsgi_sessions.E001"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_ENGINE": "x"}, ["wsgi_sessions.W002"]),
        ({"WSGI_SESSIONS": GOOD, "SESSION_ENGINE": "x", "MIDDLEWARE": []}, []),
        ({"WSGI_SESSIONS": GOOD | {"cookie": Cookie("sid")}}, ["wsgi_sessions.W003"]),
        ({"WSGI_SESSIONS": GOOD | {"cookie": Cookie("sid")}, "SESSION_COOKIE_NAME": "sid"}, []),
        (
            {
                "WSGI_SESSIONS": GOOD,
                "MIDDLEWARE": ["wsgi_sessions.django.SessionMiddleware", DJANGOS],
            },
            ["wsgi_sessions.E003"],
        ),
        ({"WSGI_SESSIONS": GOOD, "MIDDLEWARE": [DJANGOS]}, ["wsgi_sessions.W004"]),
        (
            {
                "WSGI_SESSIONS": GOOD,
                "MIDDLEWARE": [DJANGOS],
                "SESSION_ENGINE": "wsgi_sessions.django.engine",
            },
            ["wsgi_sessions.W004"],
        ),
        ({"WSGI_SESSIONS": GOOD, "MIDDLEWARE": [DJANGOS], "SESSION_ENGINE": "x"}, []),
        ({"WSGI_SESSIONS": GOOD, "SESSION_ENGINE": "wsgi_sessions.django.engine"}, []),
    ],
)
def test_a_wrong_setting_is_a_message_of_the_system_check(
    changed: dict[str, Any], expected: list[str]
) -> None:
    assert found(**changed) == expected


def test_a_short_secret_key_is_an_error_that_says_what_to_write() -> None:
    with (
        override_settings(WSGI_SESSIONS=GOOD, SECRET_KEY="short"),
        pytest.raises(SystemCheckError, match="SECRET_KEY has 5 bytes.*wsgi_sessions secret"),
    ):
        call_command("check")


def test_a_store_that_cannot_be_made_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            if name == "subscribe":
                raise StoreError("the store was told to fail")
            return lambda *args, **options: None

    assert found(WSGI_SESSIONS={"store": Broken()}) == ["wsgi_sessions.E002"]


def test_djangos_settings_become_options() -> None:
    with override_settings(
        WSGI_SESSIONS={},
        SECRET_KEY=SECRET,
        SECRET_KEY_FALLBACKS=[SECRET[::-1]],
        SESSION_COOKIE_NAME="s",
        SESSION_COOKIE_PATH="/p",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_EXPIRE_AT_BROWSER_CLOSE=True,
        SESSION_SAVE_EVERY_REQUEST=True,
    ):
        options = options_from_settings()

    assert options["secret_key"] == [SECRET, SECRET[::-1]]
    assert options["rolling"] is True
    assert options["cookie"] == Cookie(
        "s",
        path="/p",
        domain="example.com",
        secure=True,
        httponly=False,
        samesite="Strict",
        persistent=False,
    )


def test_options_of_ours_win() -> None:
    given = {
        "secret_key": "k" * 32,
        "cookie": Cookie("mine"),
        "lifetime": Lifetime(idle=60),
        "rolling": False,
        "codec": None,
    }
    with override_settings(WSGI_SESSIONS=given, SESSION_SAVE_EVERY_REQUEST=True):
        options = options_from_settings()

    assert {**options, "codec": None} == given


def test_a_codec_of_the_projects_own_is_used() -> None:
    codec = JSONCodec()
    with override_settings(WSGI_SESSIONS={"codec": codec}):
        assert options_from_settings()["codec"] is codec


def test_changes_under_override_settings_are_heard_and_lose_nothing() -> None:
    with override_settings(WSGI_SESSIONS={"store": "memory://"}):
        store = SessionStore()
        store["a"] = 1
        store.save()
        before = sessions()
        with override_settings(SESSION_COOKIE_AGE=60, DEBUG=True):
            assert sessions() is not before
            assert dict(SessionStore(store.session_key)) == {"a": 1}
            assert SessionStore().get_expiry_age() == 60


def test_without_a_store_sessions_live_in_memory_through_all_changes() -> None:
    with override_settings(SESSION_COOKIE_AGE=60):
        store = SessionStore()
        store["a"] = 1
        store.save()
    with override_settings(SESSION_COOKIE_AGE=90):
        assert dict(SessionStore(store.session_key)) == {"a": 1}


def test_save_every_request_renews_the_cookie_of_a_used_session() -> None:
    with site({"SESSION_SAVE_EVERY_REQUEST": True}) as shop:
        client = shop.client()
        shop.run(client, lambda r: r.session.update(a=1))

        assert shop.run(client, lambda r: r.session["a"]).cookies["sessionid"].value
        assert not shop.run(client, lambda r: "-").cookies


def test_httponly_is_heard() -> None:
    with site({"SESSION_COOKIE_HTTPONLY": False}) as shop:
        response = shop.run(shop.client(), lambda r: r.session.update(a=1))

    assert response.cookies["sessionid"]["httponly"] == ""


def test_two_threads_that_come_first_make_one() -> None:
    from wsgi_sessions.django import engine

    with override_settings(WSGI_SESSIONS=GOOD):
        real = engine._present.lock

        class Slow:
            def __enter__(self) -> None:
                engine._present.lock = real
                self.first = sessions()

            def __exit__(self, *args: object) -> None: ...

        slow = Slow()
        engine._present.lock = slow  # type: ignore[assignment] # it lets another in between

        assert sessions() is slow.first
