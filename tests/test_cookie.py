"""Reading one name out of a Cookie header, and writing ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.sansio.http import parse_cookie

from wsgi_sessions import ConfigurationError, Cookie
from wsgi_sessions.cookie import (
    MAX_AGE,
    MAX_BYTES,
    MAX_HEADER,
    Candidates,
    CookieWriter,
    domain_matches,
    find_candidates,
    path_matches,
    plain_value,
    wsgi_path,
)

V = "v" * 20


def ordinary(values: list[str]) -> Candidates:
    """These values, found in the ordinary way."""
    return Candidates(tuple(values), after_comma=False, beyond=None)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (f"sid={V}", [V]),
        (f"a=1; sid={V}; b=2", [V]),
        (f"a=1;sid={V};b=2", [V]),
        (f"sid = {V} ", [V]),
        (f"sid={V}\x0b", [f"{V}\x0b"]),
        (f"sid=X{V}X", [f"X{V}X"]),
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
        (f"sid={V}; a=x, sid=evil", [V]),
        (f"sid={V}; sid=evil, y", [V, "evil, y"]),
        (f"a=1, xsid={V}", []),
        (f"a=1,{V}", []),
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
    assert find_candidates(header, "sid") == ordinary(values)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (f"sid={V}", V),
        (f"a=1; sid={V}; b=2", V),
        (f"sidx=1; sid={V}; sid=other", V),
        (f"xsid=1; sid={V}", V),
        (f"a=1;sid={V}", None),
        (f"a=sid={V}", None),
        (f"xsid={V}", None),
        (f"a=1; SID={V}", None),
        (f"{'x' * MAX_HEADER}; sid={V}", None),
        ("", None),
    ],
)
def test_what_browsers_send_is_found_at_once(header: str, value: str | None) -> None:
    assert plain_value(header, "sid") == value


def test_a_cookie_that_ends_beyond_what_is_read_is_not_there_and_the_whole_length_is_said() -> None:
    ours = f"; sid={V}"
    filled = "a=" + "x" * (MAX_HEADER - len(ours) - 2) + ours
    header = f"{filled[:2]}x{filled[2:]}; b=1"

    assert find_candidates(f"{filled}; b=1", "sid") == ordinary([V])
    assert find_candidates(header, "sid") == Candidates(
        (),
        after_comma=False,
        beyond=f"the Cookie header has {len(header)} characters; only the first {MAX_HEADER} are read",
    )


@given(
    st.lists(st.sampled_from(["sid", "=", ";", "; ", " ", ",", "a", "sid=b", "\t"]), max_size=30),
    st.sampled_from(["sid", "__Host-sid"]),
)
def test_what_is_found_at_once_would_be_found_by_parsing(parts: list[str], name: str) -> None:
    header = "".join(parts).replace("sid", name)
    value = plain_value(header, name)

    if value is not None and not set(value) & set(', \t"'):
        assert value in find_candidates(header, name).values


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (f'sid="{V}"', [V]),
        (f'sid = "{V}" ; a=1', [V]),
        (f'$Version="1"; sid="{V}";$Path="/";$Domain="shop.example"', [V]),
        ('sid=""', [""]),
        ('sid="', ['"']),
        (f'sid="{V}', [f'"{V}']),
        (f'sid={V}"', [f'{V}"']),
        (f'sid=""{V}""', [f'"{V}"']),
        (f'sid="{V}\\""', [f'{V}\\"']),
        (f"sid='{V}'", [f"'{V}'"]),
    ],
)
def test_c1_a_value_may_stand_in_one_pair_of_quotes(header: str, values: list[str]) -> None:
    # RFC 6265 section 4.1.1: cookie-value = *cookie-octet / ( DQUOTE *cookie-octet DQUOTE )
    assert find_candidates(header, "sid") == ordinary(values)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (f"a=1,sid={V}", [V]),
        (f"a=1, sid={V}", [V]),
        (f"a=1, sid={V}, b=2", [V]),
        (f"a=1; b=2, sid={V}; c=3", [V]),
        (f"sid={V},a=1", [V]),
        (f"sid={V}, a=1; b=2", [V]),
        (f'$Version="1", sid="{V}"', [V]),
        (f"sid={V}, sid=other", [V, "other"]),
        (f"a=1,sid={V}; b=2,sid=other", [V, "other"]),
    ],
)
def test_c3_a_comma_separates_where_nothing_else_finds_ours(header: str, values: list[str]) -> None:
    # RFC 9113 section 8.2.3 has the lines joined by "; ", but gunicorn and waitress know of no
    # HTTP/2, and join what a proxy passed on line by line as any other header.
    assert find_candidates(header, "sid") == Candidates(tuple(values), True, None)


@pytest.mark.parametrize(
    "name", ["__Host-sid", "__Secure-sid", "__Http-sid", "__Host-Http-sid", "__hOsT-sid"]
)
def test_c3_a_comma_never_separates_where_the_name_has_a_prefix(name: str) -> None:
    # A sibling site could put such a cookie into the value of one of its own.
    assert find_candidates(f"a=1,{name}={V}", name) == ordinary([])
    assert find_candidates(f"{name}={V},a=1", name) == ordinary([f"{V},a=1"])


@pytest.mark.parametrize("separator", [";", ","])
def test_c4_at_most_eight_candidates_are_looked_at(separator: str) -> None:
    eight = separator.join(["sid=a"] * 8)

    found = find_candidates(f"x=y{separator}{eight}", "sid")
    more = find_candidates(f"x=y{separator}{eight}{separator}sid=b", "sid")

    assert (found.values, found.beyond) == (("a",) * 8, None)
    assert more.values == ("a",) * 8
    assert more.beyond == "9 cookies are called 'sid'; only the first 8 are looked at"
    assert found.after_comma is more.after_comma is (separator == ",")


def test_c4_at_most_16_kib_are_looked_at() -> None:
    longest = "a=" + "b" * (16384 - 2 - 6) + ";sid=x"

    assert len(longest) == 16384
    assert find_candidates(longest, "sid") == ordinary(["x"])
    assert find_candidates(longest + ";b=2", "sid") == ordinary(["x"])
    cut = find_candidates(longest + "y", "sid")
    assert cut.values == ()
    assert cut.beyond == "the Cookie header has 16385 characters; only the first 16384 are read"


def test_c4_a_long_header_is_told_only_where_ours_may_be_in_the_rest() -> None:
    others = "a=" + "b" * 20_000

    assert find_candidates(f"{others}; sid={V}", "sid").beyond is not None
    assert find_candidates(f"sid={V}; {others}", "sid") == ordinary([V])
    assert find_candidates(others, "sid") == ordinary([])
    both = find_candidates(f"sid=1; {others}; sid={V}", "sid")
    assert both.values == ("1",)
    assert both.beyond is not None


def test_candidates_hide_their_values() -> None:
    shown = repr(find_candidates(f"sid={V}", "sid"))

    assert shown == "<Candidates: 1, after_comma=False, beyond=None>"


def test_c4_many_candidates_in_a_long_header_are_told_as_a_long_header() -> None:
    found = find_candidates("sid=a;" * 10_000, "sid")

    assert found.values == ("a",) * 8
    assert str(found.beyond).startswith("the Cookie header has 60000 characters")


@pytest.mark.parametrize(
    "piece", ["a=;", ";", "sid ", " ", "\t;", 'sid="\\"', "sid;", "; \t", ",sid=", ",", "sid=,"]
)
def test_no_header_takes_more_than_linear_work(piece: str) -> None:
    # What this would do with backtracking never ends within a test run.
    find_candidates(piece * 400_000, "sid")


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_survivable(header: str) -> None:
    find_candidates(header, "sid")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sid", "a", "sid2", "b"]),
            st.text("abcDEF019-_.", min_size=1, max_size=9),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.sampled_from(["; ", ";", " ;\t"]),
)
def test_for_plain_headers_it_agrees_with_werkzeug(
    pairs: list[tuple[str, str, bool]], separator: str
) -> None:
    header = separator.join(
        f'{name}="{value}"' if quoted else f"{name}={value}" for name, value, quoted in pairs
    )

    assert list(find_candidates(header, "sid").values) == parse_cookie(header).getlist("sid")


def test_defaults() -> None:
    cookie = Cookie()

    assert CookieWriter(cookie).set("T", secure=True, max_age=None, now=0) == (
        "session=T; Secure; HttpOnly; Path=/; SameSite=Lax"
    )
    assert CookieWriter(cookie).set("T", secure=False, max_age=None, now=0) == (
        "session=T; HttpOnly; Path=/; SameSite=Lax"
    )


def test_the_limits_are_those_of_rfc_6265bis_sections_5_5_and_5_6() -> None:
    assert (MAX_AGE, MAX_BYTES) == (400 * 86_400, 4096)


def test_max_age_is_at_most_400_days() -> None:
    written = CookieWriter(Cookie()).set("T", secure=True, max_age=10**9, now=0)

    assert "; Expires=Fri, 05 Feb 1971 00:00:00 GMT; Max-Age=34560000;" in written


def test_c1_expires_stands_beside_max_age_and_names_the_same_moment() -> None:
    # RFC 6265 section 5.3: Max-Age has precedence. Java's CookieManager takes a cookie without
    # Expires for one of another kind.
    writer = CookieWriter(Cookie())

    written = writer.set("T", secure=False, max_age=3600, now=1_800_000_000.9)
    later = writer.set("T", secure=False, max_age=3600, now=1_800_000_001.0)

    assert written == (
        "session=T; Expires=Fri, 15 Jan 2027 09:00:00 GMT; Max-Age=3600;"
        " HttpOnly; Path=/; SameSite=Lax"
    )
    assert "Expires=Fri, 15 Jan 2027 09:00:01 GMT; Max-Age=3600;" in later


def test_c1_a_cookie_that_ends_with_the_browser_has_neither() -> None:
    written = CookieWriter(Cookie()).set("T", secure=False, max_age=None, now=1_800_000_000)

    assert "Expires" not in written
    assert "Max-Age" not in written


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
    setting = writer.set("T", secure=True, max_age=None, now=0)
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


def test_a_path_is_compared_as_servers_unquote_it() -> None:
    assert wsgi_path("/caf%C3%A9") == "/caf\xc3\xa9"


@pytest.mark.parametrize(
    ("cookie", "attributes"),
    [
        (Cookie(path="/x"), "HttpOnly; Path=/x; SameSite=Lax"),
        (Cookie(domain="a.test"), "Domain=a.test; HttpOnly; Path=/; SameSite=Lax"),
        (Cookie(domain=".a.test"), "Domain=a.test; HttpOnly; Path=/; SameSite=Lax"),
        (Cookie(secure=True), "Secure; HttpOnly; Path=/; SameSite=Lax"),
        (Cookie(secure=False), "HttpOnly; Path=/; SameSite=Lax"),
        (Cookie(httponly=False), "Path=/; SameSite=Lax"),
        (Cookie(samesite="Strict"), "HttpOnly; Path=/; SameSite=Strict"),
        (
            Cookie(secure=True, samesite="None", partitioned=True),
            "Secure; HttpOnly; Path=/; SameSite=None; Partitioned",
        ),
    ],
)
def test_each_setting_is_written(cookie: Cookie, attributes: str) -> None:
    writer = CookieWriter(cookie)

    assert writer.set("T", secure=False, max_age=5, now=0) == (
        f"session=T; Expires=Thu, 01 Jan 1970 00:00:05 GMT; Max-Age=5; {attributes}"
    )


@pytest.mark.parametrize("secure", [True, False])
def test_secure_is_as_it_was_set_whatever_the_request_is(secure: bool) -> None:
    writer = CookieWriter(Cookie(secure=secure))

    for request in (True, False):
        assert ("Secure" in writer.set("T", secure=request, max_age=None, now=0)) is secure
        assert ("Secure" in writer.expire(secure=request)) is secure


@pytest.mark.parametrize("given", ["lax", "LAX", "Lax", "strict", "STRICT", "Strict", "lAX"])
def test_samesite_is_written_in_one_spelling(given: Any) -> None:
    assert Cookie(samesite=given) == Cookie(samesite=given.capitalize())
    assert Cookie(samesite=given).samesite == given.capitalize()


def test_samesite_is_lax_by_default() -> None:
    assert Cookie().samesite == "Lax"


@pytest.mark.parametrize(
    "options",
    [
        {"name": "n" * 256},
        {"path": "/" + "p" * 1023},
        {"path": "/zZ:<~"},
        {"domain": "a" * 63 + ".test"},
        {"domain": ".".join(["a" * 49] * 5 + ["abc"])},
        {"domain": "EXAMPLE.Com"},
        {"domain": ".example.com"},
        {"domain": "a-b.test"},
    ],
)
def test_what_browsers_take_is_taken(options: dict[str, Any]) -> None:
    assert CookieWriter(Cookie(**options)).set("T", secure=False, max_age=None, now=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "name is of type int; write it as a str"),
        ({"name": "n" * 257}, "; use letters, digits and .* only, at most 256 characters"),
        ({"path": 5}, "path is of type int; write it as a str"),
        ({"path": "/" + "p" * 1024}, "; it must start with '/' and .* at most 1024 characters"),
        ({"path": "/\x7f"}, r"path is '/\\x7f'; it must start with '/'"),
        ({"path": "/\x1f"}, r"path is '/\\x1f'; it must start with '/'"),
        ({"domain": 5}, "domain is of type int; write it as a str"),
        ({"domain": "a" * 64 + ".test"}, r"a\.test'; write a host name in ASCII"),
        ({"domain": ".".join(["a" * 49] * 5 + ["abcd"])}, "; write a host name in ASCII"),
        ({"domain": "a.test."}, "domain is 'a.test.'; write a host name in ASCII"),
        ({"domain": "-a.test"}, "domain is '-a.test'; write a host name in ASCII"),
        ({"secure": "yes"}, "secure is 'yes'; write True, False or 'auto'"),
        ({"secure": 1}, "secure is 1; write True, False or 'auto'"),
        ({"httponly": 1}, "^Cookie: httponly is 1"),
        ({"partitioned": "x"}, "^Cookie: partitioned is 'x'"),
        ({"persistent": None}, "^Cookie: persistent is None"),
        ({"samesite": "no"}, "samesite is 'no'; write 'Lax', 'Strict' or 'None'"),
        ({"samesite": None}, "samesite is None; write 'Lax', 'Strict' or 'None'"),
        (
            {"samesite": "none"},
            "^Cookie: samesite='None' with secure='auto' is refused by browsers; write secure=True",
        ),
        (
            {"partitioned": True, "secure": False},
            "^Cookie: partitioned=True with secure=False is refused by browsers;",
        ),
        ({"name": "__SECURE-a"}, "secure is 'auto'; write secure=True, or drop the '__Secure-'"),
        ({"name": "__host-a", "secure": True, "path": "/a"}, "'/a' and None; drop the '__Host-'"),
        ({"name": "__Http-a", "secure": True, "httponly": False}, "httponly=True; .* '__Http-'"),
        (
            {"name": "__Host-Http-a", "secure": True, "httponly": False},
            "httponly=True; .* '__Host-Http-'",
        ),
        (
            {"name": "__Host-Http-a", "secure": True, "domain": "a.test"},
            r"'/' and 'a\.test'; drop the '__Host-Http-' prefix or these settings",
        ),
    ],
)
def test_what_is_wrong_with_a_setting_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Cookie(**options)


def test_the_defaults_are_the_strict_ones() -> None:
    assert Cookie() == Cookie(
        name="session",
        path="/",
        domain=None,
        secure="auto",
        httponly=True,
        samesite="Lax",
        persistent=False,
    )


@pytest.mark.parametrize(
    ("domain", "host", "kept"),
    [
        ("example.com", "example.com", True),
        (".Example.com", "SHOP.example.COM:8000", True),
        ("example.com", "EXAMPLE.COM", True),
        ("example.com", "example.com:80", True),
        ("[::1]", "[::1]:80", True),
        ("[::1]", "[::1]", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil", False),
        ("example.com", "com", False),
        ("example.com", "example.com:x", False),
        ("example.com", "", False),
    ],
)
def test_a_browser_keeps_a_cookie_for_its_domain_and_what_is_below(
    domain: str, host: str, kept: bool
) -> None:
    assert domain_matches(domain, host) is kept
