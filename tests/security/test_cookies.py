"""Requirements 1.3: the cookie's attributes, its name, and how a request's header is read."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from acts import destroy, login, nothing, put, read, sending, started, token, twin
from wsgi import SECRET, Response, Site
from wsgi_sessions import ConfigurationError, Cookie, Lifetime, Session
from wsgi_sessions.crypto.signing import TokenSigner
from wsgi_sessions.stores import MemoryStore
from wsgi_sessions.testing import FaultyStore

HTTPS = {"wsgi.url_scheme": "https"}
HOST = Cookie(name="__Host-sid", secure=True)


def attributes(response: Response) -> list[str]:
    assert response.set_cookie is not None
    return response.set_cookie.split("; ")[1:]


def test_CK_1_the_defaults_are_safe() -> None:
    site = Site()

    response = site.run(site.browser(**HTTPS), put(a=1))

    assert sorted(attributes(response)) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "__Host-x", "secure": True, "domain": "example.com"},
        {"name": "__Host-x", "secure": True, "path": "/app"},
        {"name": "__Host-x", "secure": False},
        {"name": "__Host-x", "secure": "auto"},
        {"name": "__HOST-x", "secure": False},
        {"name": "__secure-x", "secure": False},
        {"name": "__Secure-x", "secure": "auto"},
        {"name": "__Http-x", "secure": False},
        {"name": "__Http-x", "secure": True, "httponly": False},
        {"name": "__Host-Http-x", "secure": True, "httponly": False},
        {"name": "__host-http-x", "secure": True, "path": "/app"},
    ],
)
def test_CK_2_a_name_that_a_browser_would_drop_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="promises"):
        Cookie(**options)


@pytest.mark.parametrize("name", ["__Host-x", "__Host-Http-x", "__Http-x", "__Secure-x"])
def test_CK_2_each_prefix_works_with_what_it_demands(name: str) -> None:
    site = Site(cookie=Cookie(name=name, secure=True))
    browser = site.browser(**HTTPS)
    site.run(browser, put(a=1))

    assert site.run(browser, read).text == "{'a': 1}"


def test_CK_3_no_other_name_stands_in_for_a_prefixed_one() -> None:
    plain, browser = started(cookie=Cookie(name="sid"))
    prefixed = Site(cookie=HOST, store=plain.store, clock=plain.clock)

    for scheme in ("http", "https"):
        both = f"sid={token(browser)}; __Host-sid={token(browser)}"
        extra = {"wsgi.url_scheme": scheme}
        assert prefixed.run(sending(prefixed, both, **extra), read).text == "{}"


@pytest.mark.parametrize(
    "options",
    [
        {"samesite": "None"},
        {"samesite": "None", "secure": False},
        {"partitioned": True},
        {"partitioned": True, "secure": False},
        {"samesite": "Laxative"},
        {"samesite": None},
        {"samesite": True},
    ],
)
def test_CK_4_what_browsers_refuse_without_secure_is_refused_here(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        Cookie(**options)


@pytest.mark.parametrize("option", ["name", "path", "domain", "samesite"])
def test_CK_5_no_byte_breaks_out_of_the_header(option: str) -> None:
    start: Any = {"name": "a", "path": "/a", "domain": "a.example", "samesite": "Lax"}[option]
    bad = [chr(code) for code in (*range(0x20), 0x7F, 0x80, 0xFF, 0x2028)] + [";"]
    bad += [] if option == "path" else [",", " ", "=", '"', "\\"]

    for char in bad:
        for text in (start + char, start + char + "b"):
            with pytest.raises(ConfigurationError):
                Cookie(**{option: text})


@pytest.mark.parametrize(
    "options",
    [{"name": "n" * 4096}, {"path": "/" + "p" * 1024}, {"domain": "d" * 254}, {"domain": "d" * 64}],
)
def test_CK_6_too_long_is_an_error_and_never_silent(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        Cookie(**options)


def test_CK_6_an_ordinary_cookie_is_short() -> None:
    site = Site(cookie=HOST)

    response = site.run(site.browser(**HTTPS), login)

    assert response.set_cookie is not None
    assert len(response.set_cookie.partition(";")[0]) <= 140


def test_CK_7_max_age_is_at_most_400_days() -> None:
    site = Site(cookie=Cookie(persistent=True), lifetime=Lifetime(idle=10**9, absolute=None))

    assert "Max-Age=34560000" in attributes(site.run(site.browser(), put(a=1)))


def test_CK_8_at_most_one_cookie_of_our_name() -> None:
    site, browser = started()
    site.headers = [("Set-Cookie", "session=x; Path=/"), ("set-cookie", "session=y"),
                    ("Set-Cookie", "other=z")]  # fmt: skip

    def work(session: Session) -> None:
        session.regenerate()
        session.destroy()
        session["b"] = 2

    response = site.run(browser, work)

    ours = [value for value in response.all("Set-Cookie") if value.startswith("session=")]
    assert len(ours) == 1
    assert "other=z" in response.all("Set-Cookie")
    assert site.run(browser, read).text == "{'b': 2}"


@pytest.mark.parametrize(
    "cookie",
    [
        Cookie(),
        Cookie(domain="example.com", secure=True),
        Cookie(path="/run"),
        Cookie(name="__Secure-sid", secure=True, samesite="Strict"),
        HOST,
        Cookie(name="__Host-p", secure=True, partitioned=True, samesite="None"),
        Cookie(httponly=False),
    ],
    ids=lambda cookie: cookie.name + cookie.path,
)
def test_CK_9_expiring_repeats_every_attribute_and_holds_no_value(cookie: Cookie) -> None:
    site = Site(cookie=cookie)
    browser = site.browser(**HTTPS)
    given = attributes(site.run(browser, put(a=1)))

    response = site.run(browser, destroy)

    assert response.set_cookie is not None
    assert response.set_cookie.startswith(f"{cookie.name}=;")
    ended = {"Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"}
    assert set(attributes(response)) == set(given) | ended


def test_CK_10_over_http_a_secure_cookie_is_neither_set_nor_expired() -> None:
    site = Site(cookie=Cookie(secure=True))

    response = site.run(site.browser(), put(a=1))

    assert response.set_cookie is None
    assert site.kinds == ["insecure"]
    assert list(site.store.keys()) == []


def test_CK_11_a_session_begun_over_https_is_not_honoured_over_http() -> None:
    site = Site()
    browser = site.browser(**HTTPS)
    site.run(browser, put(a=1))
    thief = twin(browser)
    thief.extra = {}

    assert site.run(thief, read).text == "{}"
    assert site.kinds[-1] == "insecure"
    assert site.run(browser, read).text == "{'a': 1}"


@pytest.mark.parametrize(
    "name",
    ["\xe2\x80\x80{}", "\xc2\xa0{}", "\xa0{}", "\x85{}", "\x1f{}", "\x0b{}", "{}\xa0", "{}\x0b"],
)
def test_CK_12_names_are_compared_byte_by_byte(name: str) -> None:
    site = Site(cookie=HOST)
    browser = site.browser(**HTTPS)
    site.run(browser, put(a=1))
    good = token(browser)

    for spelled in (name.format("__Host-sid"), "__HOST-sid", "__host-sid"):
        assert site.run(sending(site, f"{spelled}={good}", **HTTPS), read).text == "{}"
    assert site.run(sending(site, f" \t__Host-sid \t= \t{good}\t ", **HTTPS), read).text != "{}"


@pytest.mark.parametrize("form", ["%5F_Host-sid={}", "__Host-sid%3d={}", '__Host-sid=""{}""',
                                  "__Host-sid=%2e{}", '__Host-sid="\\141{}"'])  # fmt: skip
def test_CK_13_nothing_is_decoded(form: str) -> None:
    site = Site(cookie=HOST)
    browser = site.browser(**HTTPS)
    site.run(browser, put(a=1))

    assert site.run(sending(site, form.format(token(browser)), **HTTPS), read).text == "{}"


@pytest.mark.parametrize("form", ["=session={}", "==session={}", ";=session={}", "=; =session={}"])
def test_CK_14_a_nameless_pair_never_becomes_a_named_one(form: str) -> None:
    site, browser = started()

    response = site.run(sending(site, form.format(token(browser))), read)

    assert (response.code, response.text) == (200, "{}")


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ('a="x; session={}; b=y"', True),
        ('a="x; session={}"', False),
        ("$Version=1; session={}", True),
        ("a=1; session={};", True),
    ],
)
def test_CK_15_the_semicolon_is_the_only_separator(form: str, found: bool) -> None:
    site, browser = started()

    response = site.run(sending(site, form.format(token(browser))), read)

    assert response.text == ("{'a': 1}" if found else "{}")


@pytest.mark.parametrize(
    "form",
    ["bad[x=1; session={}", 'a={{"x":1}}; session={}', "foo; session={}", "a b=1; session={}",
     "é=1; session={}", "\x00=1; session={}", "session={}; foo", "\xff\xfe; session={}"],
)  # fmt: skip
def test_CK_16_an_odd_neighbour_never_hides_our_cookie(form: str) -> None:
    site, browser = started()

    assert site.run(sending(site, form.format(token(browser))), read).text == "{'a': 1}"


def test_CK_17_the_order_of_two_cookies_of_our_name_decides_nothing() -> None:
    site, browser = started()
    other = site.browser()
    site.run(other, put(b=2))
    one, two = token(browser), token(other)
    forged = one[:-1] + ("A" if one[-1] != "A" else "B")

    for header in (f"session={forged}; session={one}", f"session={one}; session={forged}"):
        assert site.run(sending(site, header), read).text == "{'a': 1}"
    for header in (f"session={one}; session={two}", f"session={two}; session={one}"):
        assert site.run(sending(site, header), read).text == "{}"
        assert site.kinds[-1] == "cookie_conflict"
    assert site.run(sending(site, f"session={one}; session={one}"), read).text == "{'a': 1}"


def test_CK_18_what_is_read_of_a_cookie_header_is_bounded() -> None:
    site, browser = started()
    good = token(browser)

    assert site.run(sending(site, "a=;" * 350_000 + f"session={good}"), read).text == "{}"
    assert site.run(sending(site, "session=x;" * 8 + f"session={good}"), read).text == "{}"
    assert site.run(sending(site, "session=x;" * 7 + f"session={good}"), read).text == "{'a': 1}"


@pytest.mark.parametrize("piece", ["a=;", '""', ";", "session=", "\\", "session ", " \t", '="'])
def test_CK_18_a_megabyte_of_anything_is_survived(piece: str) -> None:
    site = Site()

    response = site.run(sending(site, piece * (1_000_000 // len(piece))), read)

    assert (response.code, response.text) == (200, "{}")


JOINED = ["a=1,{}", "{},a=1", "{}, a=1; b=2", "{},{}", "$Version=1, {};$Path=/", "a=1; b=2, {}"]


@pytest.mark.parametrize("form", JOINED)
def test_CK_19_c3_cookie_lines_that_were_joined_by_a_comma_are_read(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    site, browser = started()
    header = form.replace("{}", f"session={token(browser)}")

    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        texts = [site.run(sending(site, header), read).text for _ in range(3)]

    assert texts == ["{'a': 1}"] * 3
    assert caplog.text.count("after a comma") == 1


@pytest.mark.parametrize("form", JOINED)
def test_CK_19_c3_they_are_not_where_the_name_has_a_prefix(form: str) -> None:
    site = Site(cookie=HOST)
    browser = site.browser(**HTTPS)
    site.run(browser, put(a=1))
    header = form.replace("{}", f"__Host-sid={token(browser)}")

    assert site.run(sending(site, header, **HTTPS), read).text == "{}"


def test_c3_a_cookie_of_ours_goes_before_one_after_a_comma() -> None:
    site, browser = started()
    other = site.browser()
    site.run(other, put(b=2))

    header = f"a=1, session={token(other)}; session={token(browser)}"
    assert site.run(sending(site, header), read).text == "{'a': 1}"


def test_c3_no_word_of_a_comma_where_nothing_of_ours_was_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, _ = started()

    with caplog.at_level(logging.WARNING, logger="wsgi_sessions"):
        site.run(sending(site, "a=1,session=forged"), read)

    assert "comma" not in caplog.text


def test_c1_what_javas_cookie_manager_sends_back_is_read() -> None:
    site, browser = started()
    header = f'$Version="1"; session="{token(browser)}";$Path="/";$Domain="shop.example"'

    assert site.run(sending(site, header), read).text == "{'a': 1}"


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("a=" + "b" * 20_000 + "; session={}", "characters; only the first 16384 are read"),
        ("session=x; " * 8 + "session={}", "only the first 8 are looked at"),
    ],
)
def test_c4_a_cookie_that_is_not_read_is_an_event(header: str, detail: str) -> None:
    site, browser = started()

    text = site.run(sending(site, header.replace("{}", token(browser))), read).text

    assert text == "{}"
    assert site.kinds[-1] == "cookie_not_found"
    assert detail in site.events[-1].detail


@pytest.mark.parametrize("header", ["a=" + "b" * 20_000, "session={}; a=" + "b" * 20_000])
def test_c4_a_long_header_alone_is_none(header: str) -> None:
    site, browser = started()

    site.run(sending(site, header.replace("{}", token(browser))), read)

    assert "cookie_not_found" not in site.kinds


@pytest.mark.parametrize("work", [nothing, read, lambda s: s.destroy()])
def test_CK_20_no_cookie_for_who_wrote_nothing(work: Any) -> None:
    site = Site()

    response = site.run(site.browser(), work)

    assert response.set_cookie is None
    if work is nothing:
        assert response.all("Vary") == []


def test_CK_21_the_default_name_tells_nothing_of_the_software() -> None:
    name = Cookie().name.lower()

    assert not any(word in name for word in ("wsgi", "python", "py", "flask", "werkzeug"))


def test_DOS_4_the_signatures_checked_per_request_are_few() -> None:
    store = FaultyStore(MemoryStore())
    site = Site(store=store)
    signer = TokenSigner((SECRET.encode(),), "cookie.session")
    header = "; ".join(f"session={signer.sign(f'{n:043d}')}" for n in range(1_000))

    site.run(sending(site, header), read)

    assert store.calls == {"load": 8}
