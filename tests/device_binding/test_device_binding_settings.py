"""DeviceBinding: what is allowed, and what it can't be combined with."""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta
from typing import Any

import pytest

from wsgi_sessions.cookie import Cookie
from wsgi_sessions.device_binding import Binder, DeviceBinding, check_cookie, check_with
from wsgi_sessions.errors import ConfigurationError


def test_everything_has_a_default() -> None:
    settings = DeviceBinding()

    assert settings.max_age_seconds == 600
    assert settings.grace_seconds == 60
    assert settings.path == "/.well-known/device-binding"
    assert (settings.exclude, settings.initiators) == ((), ("*",))
    assert settings.when_missing == "refuse"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("max_age", 119, "120 seconds"),
        ("max_age", 86401, "to a day"),
        ("max_age", timedelta(minutes=1), "120 seconds"),
        ("max_age", True, "timedelta or a number"),
        ("max_age", "600", "timedelta or a number"),
        ("max_age", float("nan"), "finite"),
        ("grace", -1, "0 seconds or more"),
        ("grace", 86401, "at most a day"),
        ("grace", None, "timedelta or a number"),
        ("path", "", "write a path"),
        ("path", None, "write a path"),
        ("path", "no-slash", "write a path"),
        ("path", "/ends/", "write a path"),
        ("path", "/", "write a path"),
        ("path", "//host", "write a path"),
        ("path", "/a/../b", "write a path"),
        ("path", "/a/.", "write a path"),
        ("path", "/a\n", "write a path"),
        ("path", '/a"b', "write a path"),
        ("path", "/a%2Fb", "write a path"),
        ("path", "/ä", "write a path"),
        ("path", "/" + "a" * 256, "at most 256"),
        ("exclude", "/static/", "write a list"),
        ("exclude", ["static/"], "'static/'"),
        ("exclude", ["/a?b"], "'/a?b'"),
        ("exclude", [None], "None"),
        ("exclude", ["/x"] * 101, "at most 100"),
        ("exclude", ["/" + "a" * 256], "exclude has"),
        ("initiators", "*", "write a list"),
        ("initiators", ["https://idp.example.com"], "host names"),
        ("initiators", ["IDP.example.com"], "lower case"),
        ("initiators", ["a.*.com"], "host names"),
        ("initiators", ["-a.com"], "host names"),
        ("when_missing", "destroy", "'refuse' or 'flag'"),
        ("when_missing", None, "'refuse' or 'flag'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(option: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeviceBinding(**{option: value})

    assert f"DeviceBinding: {option}" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_age", 120),
        ("max_age", timedelta(days=1)),
        ("grace", 0),
        ("grace", timedelta(minutes=5)),
        ("path", "/app/auth_device.v2~x"),
        ("path", "/..a/b..c"),
        ("exclude", ["/static/", "/a%20b", "/"]),
        ("initiators", []),
        ("initiators", ["*.example.com", "idp.example.org", "localhost"]),
        ("when_missing", "flag"),
    ],
)
def test_what_is_at_the_border_is_allowed(option: str, value: Any) -> None:
    DeviceBinding(**{option: value})


def test_an_unknown_option_is_a_configuration_error_with_a_hint() -> None:
    with pytest.raises(ConfigurationError, match="max_age"):
        DeviceBinding(maxage=600)  # type: ignore[call-arg] # that is the mistake


def test_lists_that_were_given_can_be_changed_without_effect() -> None:
    excluded = ["/static/"]
    settings = DeviceBinding(exclude=excluded)

    excluded.append("/admin/")

    assert settings.exclude == ("/static/",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.path = "/x"  # type: ignore[misc] # that is the mistake


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"client_side": True}, "ClientSideStore"),
        ({"token_header": "X-Session-Token"}, "'X-Session-Token'"),
        ({"cookie": Cookie(domain="example.com")}, "domain='example.com'"),
        ({"cookie": Cookie(secure=True, partitioned=True)}, "partitioned=True"),
        ({"cookie": Cookie(secure=False)}, "secure=False"),
    ],
    ids=["client-side", "token-header", "domain", "partitioned", "insecure"],
)
def test_an_impossible_combination_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_with(**{"client_side": False, "token_header": None, **options})

    assert told in str(caught.value)
    assert "device_binding" in str(caught.value)


@pytest.mark.parametrize(
    "cookie",
    [None, Cookie(), Cookie(secure=True), Cookie("__Host-s", secure=True), Cookie(path="/app")],
    ids=str,
)
def test_ordinary_cookies_can_be_bound(cookie: Cookie | None) -> None:
    check_with(client_side=False, token_header=None, cookie=cookie)


def test_a_cookie_that_is_chosen_by_request_is_checked_by_itself() -> None:
    with pytest.raises(ConfigurationError, match="domain"):
        check_cookie(Cookie(domain="example.com"))


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'wsgi-sessions\[crypto\]'"):
        Binder(DeviceBinding(), Cookie(), (b"x" * 32,))
