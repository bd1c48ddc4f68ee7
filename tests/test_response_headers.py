"""What a response's headers say once a session was used, and what the app says in them."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug import Response
from werkzeug.http import dump_cookie, http_date

from wsgi_sessions.http.response_headers import app_expires_cookie, finish, names_of

NOW = 1_800_000_000.0
TOKEN = ("Set-Cookie", "session=T")
Headers = list[tuple[str, str]]


def cache_control(*headers: tuple[str, str]) -> tuple[str, bool]:
    """The Cache-Control of a response that sets our cookie, and whether a warning is due."""
    finished = finish(headers, names_of(headers), ["Cookie"], ("set-cookie", "session"), [TOKEN])
    said = [value for name, value in finished.headers if name.lower() == "cache-control"]
    return ", ".join(said), finished.was_public


@pytest.mark.parametrize(
    ("given", "left", "was_public"),
    [
        ("private", "private", False),
        ("private, max-age=60", "private, max-age=60", False),
        ("no-store", "no-store", False),
        ("no-store, max-age=0", "no-store, max-age=0", False),
        ("no-cache", "no-store", False),
        ("max-age=60", "no-store", False),
        ('private="x-name"', "no-store", False),
        ("public", "no-store", True),
        ("PUBLIC", "no-store", True),
        ("s-maxage=60", "no-store", True),
        ("private, public", "no-store", True),
        ("private, S-MaxAge=60", "no-store", True),
        ("no-store, public", "no-store", True),
    ],
)
def test_no_shared_cache_keeps_a_response_that_sets_the_cookie(
    given: str, left: str, was_public: bool
) -> None:
    assert cache_control(("Cache-Control", given)) == (left, was_public)


def test_private_in_one_header_does_not_outweigh_public_in_another() -> None:
    both = ("Cache-Control", "private"), ("cache-control", "public, max-age=60")

    assert cache_control(*both) == ("no-store", True)


def test_without_a_cache_control_there_is_no_store_and_no_warning() -> None:
    assert cache_control() == ("no-store", False)


@pytest.mark.parametrize("name", ["CDN-Cache-Control", "Surrogate-Control", "X-Accel-Expires"])
@pytest.mark.parametrize(
    ("value", "was_public"),
    [("max-age=60", True), ("60", True), ("no-store", False), ("Private", False), ("0", False)],
)
def test_what_only_cdns_heed_is_dropped_with_a_word_if_it_let_them_keep_the_response(
    name: str, value: str, was_public: bool
) -> None:
    headers: Headers = [("Cache-Control", "private"), (name, value)]

    assert cache_control(*headers) == ("private", was_public)
    finished = finish(headers, names_of(headers), ["Cookie"], ("set-cookie", "session"), [TOKEN])
    assert name not in dict(finished.headers)


def test_vary_is_added_beside_another_header_with_as_short_a_name() -> None:
    finished = finish([("ETag", '"x"')], {"etag"}, ["Cookie"], ("set-cookie", "session"), ())

    assert finished.headers == [("ETag", '"x"'), ("Vary", "Cookie")]


def deleted(**options: Any) -> Headers:
    """The headers of a response of Werkzeug's, and so Flask's, that deletes our cookie."""
    response = Response()
    response.delete_cookie("session", **options)
    return response.headers.to_wsgi_list()


@pytest.mark.parametrize("options", [{}, {"path": "/shop"}, {"domain": "shop.example"}])
def test_c6_a_cookie_that_a_framework_deletes_is_expired(options: dict[str, str]) -> None:
    assert app_expires_cookie(deleted(**options), "session", NOW)


@pytest.mark.parametrize(
    ("value", "expired"),
    [
        ("session=; Max-Age=0", True),
        ("session=; max-age = 0 ", True),
        ("session=x;MAX-AGE=-1", True),
        ("session=; Max-Age=000", True),
        ("session=; Max-Age=-" + "9" * 5000, True),
        ("session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
        ("session=; expires=Thu, 01-Jan-1970 00:00:00 GMT; path=/", True),
        (f"session=; Expires={http_date(NOW)}", True),
        (f"session=; Expires={http_date(NOW + 1)}", False),
        # RFC 6265 section 5.3: Max-Age has precedence over Expires.
        ("session=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        (f"session=x; Expires={http_date(NOW + 60)}; Max-Age=0", True),
        # The last attribute of a name counts, unless it can't be read.
        ("session=x; Max-Age=0; Max-Age=60", False),
        ("session=x; Max-Age=60; Max-Age=0", True),
        ("session=x; Max-Age=0; Max-Age=x", True),
        ("session=x; Max-Age=", False),
        ("session=x; Max-Age", False),
        ("session=x; Max-Age=0.5", False),
        ("session=x; Max-Age=+0", False),
        ("session=x; Max-Age=٠", False),
        ("session=x; Expires=never", False),
        ("session=x; Expires", False),
        ("session=; Path=/", False),
        ("session=", False),
        ("session=Max-Age=0", False),
        ("sessions=; Max-Age=0", False),
        ("Session=; Max-Age=0", False),
        (" session =; Max-Age=0", True),
        ("a=1, session=; Max-Age=0", False),
    ],
)
def test_c6_a_cookie_is_expired_as_rfc_6265_section_5_3_has_it(value: str, expired: bool) -> None:
    for name in ("Set-Cookie", "set-cookie"):
        assert app_expires_cookie([("A", "b"), (name, value)], "session", NOW) is expired


def test_c6_the_last_of_several_counts() -> None:
    ends, sets = ("Set-Cookie", dump_cookie("session", "", max_age=0)), ("Set-Cookie", "session=x")
    other = ("Set-Cookie", dump_cookie("other", "", max_age=0))

    assert app_expires_cookie([sets, ends, other], "session", NOW)
    assert not app_expires_cookie([ends, sets, other], "session", NOW)
    assert not app_expires_cookie([other], "session", NOW)
    assert not app_expires_cookie([], "session", NOW)
    assert not app_expires_cookie([("Not-Cookie", ends[1])], "session", NOW)
