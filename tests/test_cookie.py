"""Reading one name out of a Cookie header, and writing ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.sansio.http import parse_cookie

from wsgi_sessions import Cookie
from wsgi_sessions.cookie import CookieWriter, find_values, path_matches

V = "v" * 20


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (f"sid={V}", [V]),
        (f"a=1; sid={V}; b=2", [V]),
        (f"a=1;sid={V};b=2", [V]),
        (f"sid = {V} ", [V]),
        (f"\tsid\t=\t{V}\t", [V]),
        (f"bad[x=1; sid={V}", [V]),
        (f'a={{"x":1}}; sid={V}', [V]),
        (f"foo; sid={V}", [V]),
        (f"a b=1; sid={V}", [V]),
        (f"\xe9=1; sid={V}", [V]),
        (f"\x00=1; sid={V}", [V]),
        (f"sid={V}; foo", [V]),
        (f"$Version=1; sid={V}", [V]),
        (f'a="x; sid={V}; b=y"', [V]),
        (f'a="x; sid={V}"', [V + '"']),
        (f"a=1,sid={V}", []),
        (f"sid={V}, sid=evil", [f"{V}, sid=evil"]),
        (f'sid="{V}"', [f'"{V}"']),
        ("sid=%41", ["%41"]),
        ("%73id=x", []),
        ("SID=x", []),
        ("xsid=x", []),
        ("sidx=x", []),
        ("=sid=x", []),
        ("==sid=x", []),
        (";=sid=x", []),
        ("sid", []),
        ("sid=", [""]),
        ("", []),
        ("sid=a; sid=b", ["a", "b"]),
        ("\xa0sid=x", []),
        ("\x85sid=x", []),
        ("\x1fsid=x", []),
        ("\x0bsid=x", []),
        ("\xe2\x80\x80sid=x", []),
        ("sid\xa0=x", []),
    ],
)
def test_reading(header: str, values: list[str]) -> None:
    assert find_values(header, "sid") == values


def test_at_most_eight_candidates_are_looked_at() -> None:
    assert find_values("sid=a;" * 1000, "sid") == ["a"] * 8


def test_at_most_16_kib_are_looked_at() -> None:
    assert find_values("a=" + "b" * 16384 + ";sid=x", "sid") == []


@pytest.mark.parametrize("piece", ["a=;", ";", "sid ", " ", "\t;", 'sid="\\"', "sid;", "; \t"])
def test_no_header_takes_more_than_linear_work(piece: str) -> None:
    # What this would do with backtracking never ends within a test run.
    find_values(piece * 400_000, "sid")


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_survivable(header: str) -> None:
    find_values(header, "sid")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sid", "a", "sid2", "b"]),
            st.text("abcDEF019-_.", min_size=1, max_size=9),
        ),
        max_size=6,
    )
)
def test_for_plain_headers_it_agrees_with_werkzeug(pairs: list[tuple[str, str]]) -> None:
    header = "; ".join(f"{name}={value}" for name, value in pairs)

    assert find_values(header, "sid") == parse_cookie(header).getlist("sid")


def test_defaults() -> None:
    cookie = Cookie()

    assert CookieWriter(cookie).set("T", secure=True, max_age=None) == (
        "session=T; Secure; HttpOnly; Path=/; SameSite=Lax"
    )
    assert CookieWriter(cookie).set("T", secure=False, max_age=None) == (
        "session=T; HttpOnly; Path=/; SameSite=Lax"
    )


def test_max_age_is_at_most_400_days() -> None:
    assert "Max-Age=34560000;" in CookieWriter(Cookie()).set("T", secure=True, max_age=10**9)


@pytest.mark.parametrize(
    "cookie",
    [
        Cookie(),
        Cookie(domain="example.com", path="/x"),
        Cookie("__Secure-a", secure=True),
        Cookie("__Host-a", secure=True, samesite="Strict"),
        Cookie(secure=True, samesite="None", partitioned=True),
        Cookie(secure=False, httponly=False),
    ],
)
def test_expiring_repeats_every_attribute(cookie: Cookie) -> None:
    writer = CookieWriter(cookie)
    setting = writer.set("T", secure=True, max_age=None)
    expiring = writer.expire(secure=True)

    start, _, attributes = setting.partition("; ")
    assert expiring == (
        f"{start[:-1]}; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; {attributes}"
    )


@pytest.mark.parametrize(
    ("cookie_path", "request_path", "matches"),
    [
        ("/", "/", True),
        ("/", "", True),
        ("/", "/foo", True),
        ("/admin", "/admin", True),
        ("/admin", "/admin/", True),
        ("/admin", "/admin/users", True),
        ("/admin", "/administrator", False),
        ("/admin", "/ADMIN", False),
        ("/admin", "//admin", False),
        ("/admin/", "/admin/x", True),
        ("/admin/", "/admin", False),
    ],
)
def test_paths_match_as_in_rfc_6265_section_5_1_4(
    cookie_path: str, request_path: str, matches: bool
) -> None:
    assert path_matches(cookie_path, request_path) is matches
