"""Known vulnerabilities of session libraries: for each, that ours doesn't have it.

The list, with components and causes, is tests/data/known_vulnerabilities.tsv. The marker `known`
names those that a test stands for, several with one cause; `pytest -k CVE-2013-7489` finds its test.
"""

from __future__ import annotations

import csv
import os
import pickle
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wsgi_sessions
from acts import destroy, id_of, login, nothing, put, read, sending, started, token, twin
from raw import raw
from records import key_of
from wsgi import SECRET, Browser, Site, environ
from wsgi_sessions import (
    ConfigurationError,
    Cookie,
    Lifetime,
    Session,
    SessionMiddleware,
    TrustedProxies,
)
from wsgi_sessions.crypto.signing import TokenSigner
from wsgi_sessions.proxies import resolve_client
from wsgi_sessions.stores import FileStore, MemoryStore
from wsgi_sessions.testing import FaultyStore

TABLE = Path(__file__).parent.parent / "data" / "known_vulnerabilities.tsv"


known = pytest.mark.known


def slow_request(site: Site, browser: Browser, other: Callable[[Session], Any]) -> Any:
    """A request that writes, while another of the same browser's does something else."""

    def work(session: Session) -> None:
        session["slow"] = True
        site.routes["/other"] = other
        twin(browser).get("/other")

    return site.run(browser, work)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("exploded",))


@known("CVE-2013-7489", "CVE-2021-33026", "CVE-2025-24813", "CVE-2020-9484", "CVE-2022-23181",
       "CVE-2018-15133", "laravel-2018-08-08", "Flask-Session-0.8.0-pickle")  # fmt: skip
def test_what_is_planted_in_the_store_is_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    site, browser = started(store=FileStore(tmp_path / "s"))
    key = key_of(id_of(browser))
    record = site.store.load(key)
    assert record is not None
    site.store.delete(key)
    site.store.insert(key, replace(record, fields={"a": bomb}))

    assert site.run(browser, lambda s: s.get("a")).text == "None"
    for file in (tmp_path / "s").rglob("*"):
        if key[2:] in file.name:
            file.write_bytes(bomb)
    assert site.run(browser, read).text == "{}"
    assert not Path("exploded").exists()


@known("CVE-2012-3458")
def test_equal_blocks_look_different_when_encrypted() -> None:
    site = Site(encryption_keys=[bytes(range(32))])
    browser = site.browser()
    site.run(browser, put(a="x" * 4096))

    record = site.store.load(key_of(id_of(browser)))
    assert record is not None
    sealed = record.fields["a"]
    blocks = [sealed[at : at + 16] for at in range(0, len(sealed) - 15, 16)]
    assert len(set(blocks)) == len(blocks)


@known("Beaker-1.14.1-fixation", "CVE-2018-1000519", "CVE-2024-38513", "GO-2024-2730",
       "CVE-2011-4718")  # fmt: skip
def test_an_id_that_the_client_chose_never_becomes_a_session() -> None:
    site = Site()
    chosen = "A" * 43
    signed = TokenSigner((SECRET.encode(),), "cookie.session").sign(chosen)
    for value in (chosen, "attackerchosen1234", signed):
        victim = Browser(site.middleware)
        victim.cookies = {"session": value}
        site.run(victim, login)

        assert id_of(victim) != chosen
        assert site.run(sending(site, f"session={value}"), lambda s: s.owner).text == "None"


@known("Beaker-1.14.1-modes")
def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    started(store=FileStore(tmp_path / "s"))

    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "s").rglob("*")}
    assert modes == {0}


@known("Beaker-1.14.1-cookie", "Flask-Session-0.8.0-cookie", "express-session-1.19.0-logout",
       "sanic-2972", "hermes-agent-41507", "hermes-agent-62270", "egapro-3098")  # fmt: skip
def test_the_deletion_cookie_is_one_that_a_browser_obeys() -> None:
    site = Site(cookie=Cookie(name="__Host-sid", secure=True))
    browser = site.browser(**{"wsgi.url_scheme": "https"})
    given = site.run(browser, put(a=1)).set_cookie or ""
    session_id = id_of(browser)

    ended = site.run(browser, destroy).set_cookie or ""

    assert ended.startswith("__Host-sid=;")
    assert session_id not in ended
    for attribute in ("Secure", "HttpOnly", "Path=/", "SameSite=Lax"):
        assert attribute in given.split("; ")
        assert attribute in ended.split("; ")


@known("CVE-2023-30861", "CVE-2026-27205", "CVE-2014-1418", "CVE-2014-0473")
@pytest.mark.parametrize("access", [lambda s: "a" in s, len, bool, list, lambda s: s.get("a")])
def test_every_look_at_the_session_varies(access: Any) -> None:
    site, browser = started(rolling=True, cookie=Cookie(persistent=True))
    site.clock.advance(100)

    response = site.run(browser, access)

    assert response.get("Vary") == "Cookie"
    assert response.set_cookie is None or response.get("Cache-Control") == "no-store"


@known("GHSA-4grg-w6v8-c28g", "CVE-2025-47278")
def test_the_newest_secret_signs() -> None:
    other = "another secret of at least thirty-two bytes, for tests"
    site = Site(secret_key=[other, SECRET])
    browser = site.browser()
    site.run(browser, put(a=1))

    assert TokenSigner((other.encode(),), "cookie.session").verify(token(browser)) is not None
    assert TokenSigner((SECRET.encode(),), "cookie.session").verify(token(browser)) is None


def _secure_site() -> tuple[Site, Browser]:
    site = Site(cookie=Cookie(name="__Host-x", secure=True))
    browser = site.browser(**{"wsgi.url_scheme": "https"})
    site.run(browser, put(a=1))
    return site, browser


@known("CVE-2023-23934", "CVE-2020-8184", "CVE-2021-41819", "CVE-2020-7070", "CVE-2022-31629",
       "CVE-2022-36032", "CVE-2026-39410", "Cookie-Chaos-2025")  # fmt: skip
@pytest.mark.parametrize(
    "form",
    ["=__Host-x={}", "==__Host-x={}", "%5F%5FHost-x={}", "__Host%2Dx={}", "__Host-x%3d={}",
     "..Host-x={}", "  [Host-x={}", "\xa0__Host-x={}", "\xe2\x80\x80__Host-x={}", "\x85__Host-x={}",
     "$Version=1,__Host-x={}", "__HOST-X={}"],
)  # fmt: skip
def test_no_other_spelling_is_a_prefixed_name(form: str) -> None:
    site, browser = _secure_site()

    header = form.format(token(browser))
    response = site.run(sending(site, header, **{"wsgi.url_scheme": "https"}), read)

    assert response.text == "{}"


@known("CVE-2016-7401", "CVE-2023-26049")
def test_quotes_and_commas_separate_nothing_and_swallow_nothing() -> None:
    site, browser = started()
    good = token(browser)

    for header in (f'x="a; session={good}; b"', f'a="; session={good}', f"a=[b]; session={good}"):
        assert site.run(sending(site, header), read).text == "{'a': 1}"
    for header in (f"x=a session={good}", f'x="session={good}"', f'x="a\\",session={good}"'):
        assert site.run(sending(site, header), read).text == "{}"


@known("CVE-2024-7592", "CVE-2024-52804", "CVE-2025-27219", "CVE-2023-22792", "CVE-2025-58186")
@pytest.mark.parametrize("piece", ['"\\', "\\134", "a=b;", "; ", "=", "session=;", " "])
def test_a_long_cookie_header_costs_little(piece: str) -> None:
    # What this would cost with a super-linear parser never ends within a test run.
    site = Site()

    assert site.run(sending(site, piece * 300_000), read).text == "{}"


@known("CVE-2018-1000814", "tower-sessions-0.5.0")
def test_the_server_decides_about_expiry() -> None:
    site, browser = started(lifetime=Lifetime(idle=60, absolute=None))
    site.clock.advance(61)

    assert site.run(browser, read).text == "{}"


@known("CVE-2022-38054", "CVE-2022-25896", "CVE-2023-29019", "CVE-2018-11385", "CVE-2015-8124",
       "CVE-2023-46733", "CVE-2019-12203")  # fmt: skip
@pytest.mark.parametrize("work", [login, lambda s: setattr(s, "owner", "bob")])
def test_signing_in_gives_a_new_id_and_kills_the_old(work: Any) -> None:
    site, browser = started()
    fixated = twin(browser)

    site.run(browser, work)

    assert token(browser) != token(fixated)
    assert site.run(fixated, lambda s: s.owner).text == "None"


@known("CVE-2023-40273", "CVE-2022-23502", "CVE-2019-10641", "GO-2026-5414")
def test_a_password_change_can_end_all_sessions() -> None:
    site = Site()
    browsers = [site.browser() for _ in range(3)]
    for browser in browsers:
        site.run(browser, login)

    site.run(browsers[0], lambda s: site.middleware.registry.revoke_all("bob", except_=s))

    owners = [site.run(browser, lambda s: s.owner).text for browser in browsers]
    assert owners == ["bob", "None", "None"]


PUBLISHED = [
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
    "changeme" * 8,
    "your-secret-key-here" * 2,
    "",
    "a" * 31,
    # Once printed in our own documentation.
    "w1XJk9mQ2vRb7TzP4sLd8uYf3hCn6aGe0oKiVxB5qNt",
    "t5NqB9xViK0oEgA6nCh3fYu8dLs4PzT7bRv2Qm9kJX1w",
    "read me from the environment, 32 bytes or more",
    "the newest secret, of 32 bytes or more",
    "just one secret, of 32 bytes or more",
    "an older one, which still verifies",
    "a key for tests, of 32 bytes or more",
]


@known("CVE-2020-17526", "CVE-2023-27524", "CVE-2024-58134", "CVE-2024-58135")
@pytest.mark.parametrize("secret", PUBLISHED)
def test_a_shipped_or_guessable_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        SessionMiddleware(lambda e, s: [], secret_key=secret)
    with pytest.raises(ConfigurationError):
        SessionMiddleware(lambda e, s: [])  # type: ignore[call-arg] # there is no default


@known("CVE-2020-17526", "CVE-2021-41263", "CVE-2022-46170")
def test_one_secret_on_two_sites_gives_two_sorts_of_tokens() -> None:
    one, browser = started(cookie=Cookie(name="one"))
    two = Site(cookie=Cookie(name="two"), store=one.store, clock=one.clock)

    assert two.run(sending(two, f"two={token(browser)}"), read).text == "{}"


@known("CVE-2008-0252", "CVE-2011-0698", "GO-2024-2730-path", "CVE-2025-24813-path")
@pytest.mark.parametrize("evil", ["../../etc/passwd", "..\\..\\x", "a/b", "/etc/passwd", "x\0.y"])
def test_no_id_is_a_path(evil: str, tmp_path: Path) -> None:
    site, _ = started(store=FileStore(tmp_path / "s"))
    before = sorted(tmp_path.rglob("*"))

    for work in (read, destroy):
        site.run(sending(site, f"session={evil}"), work)
        site.run(sending(site, f"session={evil}.{'A' * 43}"), work)
    assert site.store.load(evil) is None
    assert site.store.delete(evil) is False

    assert sorted(tmp_path.rglob("*")) == before


@known("CVE-2015-3982")
def test_ending_a_session_leaves_no_key_that_others_share() -> None:
    site, browser = started()
    site.run(browser, destroy)
    other = site.browser()
    site.run(other, put(b=2))

    assert list(site.store.keys()) == [key_of(id_of(other))]
    assert site.run(sending(site, "session="), read).text == "{}"


@known("CVE-2015-5143", "CVE-2018-11386", "CVE-2015-5963", "CVE-2015-5964")
@pytest.mark.parametrize("work", [nothing, read, destroy, lambda s: s.clear(), len])
def test_robots_fill_no_store(work: Any) -> None:
    site = Site()
    for number in range(50):
        site.run(sending(site, f"session={number:043d}"), work)
        site.run(site.browser(), work)

    assert list(site.store.keys()) == []


@known("CVE-2019-12781", "express-session-1.19.0-proto")
def test_the_proxies_word_on_the_scheme_counts() -> None:
    tls_to_the_app = environ(**{"wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "http"})
    spoofed = environ(HTTP_X_FORWARDED_PROTO="https, http")

    assert resolve_client(tls_to_the_app, 1).scheme == "http"
    assert resolve_client(spoofed, 1).scheme == "http"


@known("Django-21608", "CVE-2025-46336", "CVE-2025-32441", "connect-redis-328",
       "express-session-632", "auth0-nextjs-2335", "Beaker-1.14.1-race",
       "Flask-Session-0.8.0-race")  # fmt: skip
def test_a_slow_request_never_undoes_a_sign_out() -> None:
    site, browser = started()
    old = twin(browser)

    response = slow_request(site, browser, destroy)

    assert response.set_cookie is None
    assert list(site.store.keys()) == []
    assert site.run(old, read).text == "{}"


@known("express-session-923")
def test_a_slow_request_never_undoes_a_new_id() -> None:
    site, browser = started()
    old = twin(browser)

    slow_request(site, browser, lambda s: s.regenerate())

    assert site.run(old, read).text == "{}"
    assert len(list(site.store.keys())) == 1


@known("CVE-2026-0672", "gh-143919", "CVE-2026-3644", "CVE-2016-9964", "GHSA-26pp-8wgv-hjvm",
       "CVE-2024-47764")  # fmt: skip
@pytest.mark.parametrize("option", ["name", "path", "domain"])
@pytest.mark.parametrize("evil", ["\r\nX: y", "\n", "; Domain=evil.example", "\0", "\x7f", "\x1b"])
def test_nothing_is_injected_into_set_cookie(option: str, evil: str) -> None:
    good: Any = {"name": "a", "path": "/", "domain": "example.com"}[option]

    with pytest.raises(ConfigurationError):
        Cookie(**{option: good + evil})


@known("CVE-2022-2255", "CVE-2025-51663", "CVE-2024-21510", "CVE-2026-25119", "CVE-2026-40575",
       "GHSA-93m4-mfpg-c3xf", "CVE-2025-64101", "CVE-2023-44463")  # fmt: skip
def test_no_header_is_believed_without_a_trusted_proxy() -> None:
    made = environ(
        HTTP_X_FORWARDED_FOR="203.0.113.9",
        HTTP_X_REAL_IP="203.0.113.9",
        HTTP_X_CLIENT_IP="203.0.113.9",
        HTTP_X_FORWARDED_HOST="evil.example",
        HTTP_X_FORWARDED_PROTO="https",
        HTTP_FORWARDED="for=203.0.113.9;host=evil.example;proto=https",
    )
    for trusted in (0, TrustedProxies(hops=1, peers=("10.0.0.0/8",))):
        client = resolve_client(made, trusted)

        assert (client.ip, client.scheme) == ("192.0.2.1", "http")
        assert "evil" not in client.host


@known("CVE-2022-23556", "symfony-2012-11-29", "CVE-2025-66508", "ProxyFix-quotes")
@pytest.mark.parametrize("spoof", ["1.1.1.1", '"', '"1.1.1.1', "1.1.1.1, 2.2.2.2", "", "\\", ","])
def test_what_the_client_put_in_front_changes_nothing(spoof: str) -> None:
    made = environ(
        HTTP_X_FORWARDED_FOR=f"{spoof}, 203.0.113.9", HTTP_X_FORWARDED_PROTO=f"{spoof}, https"
    )

    client = resolve_client(made, 1)

    assert (client.ip, client.scheme) == ("203.0.113.9", "https")


@known("Werkzeug-1414")
def test_each_header_has_a_count_of_its_own() -> None:
    made = environ(
        HTTP_X_FORWARDED_FOR="203.0.113.9, 10.0.0.1", HTTP_X_FORWARDED_PREFIX="/evil, /app"
    )

    assert resolve_client(made, TrustedProxies(hops=2, prefix=1)).prefix == "/app"


@known("CVE-2024-45614", "CVE-2026-39858", "CVE-2026-35051", "CVE-2026-54764")
def test_other_spellings_of_a_header_are_not_that_header() -> None:
    made = environ(
        HTTP_X_FORWARDED_FOR="203.0.113.9",
        HTTP_XFORWARDED_FOR="1.1.1.1",
        HTTP_X_FORWARDED__FOR="1.1.1.1",
        HTTP_X_FORWARDED_PREFIX="/evil",
        HTTP_X_FORWARDED_PORT="1",
        HTTP_X_ORIGINAL_FORWARDED_FOR="1.1.1.1",
    )

    client = resolve_client(made, 1)

    assert client.ip == "203.0.113.9"
    assert client.prefix == ""
    assert client.port != 1


@known("CVE-2026-32762", "CVE-2026-34835", "CVE-2021-22881", "CVE-2021-44528", "CVE-2021-41267")
@pytest.mark.parametrize("evil", ["evil.example/x", "a@evil.example", "evil example", "a\\b",
                                  "evil.example\t", "a;b", "[::1", "a:b:c", "a%00", '"evil"'])  # fmt: skip
def test_a_host_or_prefix_that_is_none_leaves_what_was_there(evil: str) -> None:
    made = environ(
        HTTP_HOST="app.example",
        HTTP_X_FORWARDED_FOR="203.0.113.9",
        HTTP_X_FORWARDED_HOST=evil,
        HTTP_X_FORWARDED_PREFIX="//" + evil,
    )

    client = resolve_client(made, TrustedProxies(hops=1, host=1, prefix=1))

    assert "evil" not in client.host or client.host == evil.strip("\t")
    assert client.prefix == ""
    forwarded = environ(HTTP_HOST="app.example", HTTP_FORWARDED='for=203.0.113.9;host="a;b=c"')
    proxies = TrustedProxies(hops=1, host=1, header="forwarded")
    assert resolve_client(forwarded, proxies).host == "app.example"


@known("CVE-2020-7694", "CVE-2025-25184", "CVE-2025-27111")
@pytest.mark.parametrize("evil", ["\x1b[31m", "\r\nsession event created", "\n", "\x85", "\u2028"])
def test_nothing_from_a_client_steers_a_terminal(
    evil: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(cookie=Cookie(secure=True))
    extra = {"REMOTE_ADDR": evil, "HTTP_X_FORWARDED_PROTO": evil, "HTTP_USER_AGENT": evil}
    site.run(site.browser(**extra), put(a=1), check=False)

    assert caplog.records != []
    assert all(record.getMessage().isprintable() for record in caplog.records)


@known("CVE-2026-39324")
def test_what_does_not_verify_is_not_tried_in_another_way() -> None:
    site, browser = started(encryption_keys=[bytes(range(32))])
    plain = Site(store=MemoryStore(), clock=site.clock)
    other = plain.browser()
    plain.run(other, put(role="admin"))
    record = plain.store.load(key_of(id_of(other)))
    assert record is not None
    key = key_of(id_of(browser))
    site.store.delete(key)
    site.store.insert(key, record)

    assert site.run(browser, read).text == "{}"
    assert site.run(sending(site, f"session={id_of(browser)}"), read).text == "{}"


@known("CVE-2019-16782", "CVE-2019-25025", "CVE-2020-26228", "CVE-2021-21339", "CVE-2026-53603")
def test_the_store_is_asked_for_a_hash_and_knows_no_id() -> None:
    asked: list[str] = []
    store = FaultyStore(MemoryStore())
    store.before("load", lambda key: asked.append(key))
    site, browser = started(store=store)
    site.run(browser, read)

    assert asked == [key_of(id_of(browser))]
    assert id_of(browser).encode() not in raw(store.store)


@known("CVE-2013-0263", "CVE-2009-3086")
def test_signatures_are_compared_in_constant_time() -> None:
    package = Path(wsgi_sessions.__file__).parent
    plainly = r"(?:signature|sign\(.*\)|mac|digest\(.*\)|hexdigest\(\))(?:\.\w+\(.*\))*\s*(?:==|!=)"

    for module in package.rglob("*.py"):
        source = module.read_text("utf-8")
        assert not re.search(plainly, source), module.name
        assert not re.search(r"(?:==|!=)\s*(?:signature|mac)\b", source), module.name
    for name in (
        "crypto/signing.py",
        "crypto/session_id.py",
        "stores/encrypted.py",
        "client_side.py",
        "device_binding/seals.py",
    ):
        assert "hmac.compare_digest(" in (package / name).read_text("utf-8"), name


@known("CVE-2007-5380", "CVE-2007-6077")
def test_an_id_in_the_url_is_none() -> None:
    site, browser = started()
    for _ in range(3):  # the second request is like the first
        made = site.browser(QUERY_STRING=f"session={token(browser)}")
        assert site.run(made, read).text == "{}"


@known("CVE-2024-26144", "CVE-2022-24894", "express-session-1.19.0-cache")
@pytest.mark.parametrize("given", ["public, max-age=60", "s-maxage=60", "max-age=60", ""])
def test_a_cached_response_has_no_cookie_of_ours(given: str) -> None:
    site = Site()
    site.headers = [("Cache-Control", given)] if given else []

    response = site.run(site.browser(), put(a=1))

    assert response.set_cookie is not None
    assert response.get("Cache-Control") == "no-store"


@known("CVE-2025-66630", "GHSA-m98w-cqp3-qcqr")
def test_without_randomness_there_is_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(size: int) -> bytes:
        raise OSError("no entropy")

    site = Site()
    monkeypatch.setattr(os, "urandom", broken)
    with pytest.raises(OSError, match="entropy"):
        site.run(site.browser(), put(a=1))


@known("CVE-2025-40923", "CVE-2026-3256", "CVE-2026-13577", "CVE-2024-52801")
def test_ids_come_from_the_systems_randomness_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\x07" * size)
    one, two = (Site().middleware.open_session(environ()) for _ in range(2))
    assert one is not None
    assert two is not None

    assert one.id == two.id  # no clock, process or counter makes a difference


@known("CVE-2026-5080")
def test_a_newline_after_an_id_is_no_id() -> None:
    site, browser = started()

    for end in ("\n", "\r\n", "\n\n"):
        assert site.run(sending(site, f"session={token(browser)}{end}"), read).text == "{}"


@known("tower-sessions-0.12.0", "tower-sessions-0.12.1")
def test_an_id_that_collides_takes_nothing_over() -> None:
    # The part that finds a session collides, then, at a new ID, the rest does.
    ids = iter(f"{number:03d}" * 14 + "A" for number in (1, 1, 2, 1))
    site = Site(id_factory=lambda: next(ids))
    victim, other = site.browser(), site.browser()
    site.run(victim, put(a="victim"))
    site.clock.advance(0.001)
    site.run(other, put(a="other"))
    site.run(other, lambda s: s.regenerate())

    assert site.run(victim, read).text == "{'a': 'victim'}"
    assert site.run(other, read).text == "{'a': 'other'}"


@known("CVE-2022-24444", "CVE-2026-30224", "CVE-2014-3944", "CVE-2021-34428")
def test_signing_out_ends_the_session_on_the_server() -> None:
    def bad(event: object) -> None:
        raise RuntimeError("a listener's error")

    site = Site(on_event=bad)
    browser = site.browser()
    site.run(browser, login)
    stolen = twin(browser)

    site.run(browser, destroy)

    assert site.run(stolen, lambda s: s.owner).text == "None"


@known("CVE-2016-3171", "CVE-2016-4423")
def test_a_cut_record_is_no_session_and_too_much_is_an_error(tmp_path: Path) -> None:
    site, browser = started(store=FileStore(tmp_path / "s"))
    with pytest.raises(Exception, match="max_bytes"):
        site.run(browser, put(name="x" * 70_000))
    assert site.run(browser, read).text == "{'a': 1}"

    (file,) = (p for p in (tmp_path / "s").rglob("*") if key_of(id_of(browser))[2:] in p.name)
    at = file.stat().st_mtime_ns
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, ns=(at, at))
    assert site.run(browser, read).text == "{}"


@known("CVE-2023-20866", "jetty-1675")
def test_no_id_is_printed_or_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    site, browser = started()
    seen = id_of(browser)
    site.run(browser, lambda s: s.regenerate())
    site.run(browser, destroy)
    told = capfd.readouterr()

    assert "regenerated" in caplog.text
    assert seen not in caplog.text + told.out + told.err


@known("CVE-2026-24894")
def test_nothing_of_one_request_is_left_for_the_next() -> None:
    site, browser = started()
    site.run(browser, login)

    assert site.run(site.browser(), lambda s: (s.owner, dict(s))).text == "(None, {})"


@known("GO-2024-2798")
def test_the_limit_of_sessions_is_kept() -> None:
    site = Site(max_per_owner=2)
    for _ in range(5):
        site.run(site.browser(), login)

    assert site.middleware.registry.count("bob") == 2


@known("CVE-2015-8314", "CVE-2021-41268", "GO-2026-6072")
def test_a_persistent_session_has_an_end_and_belongs_to_one() -> None:
    site = Site(lifetime=Lifetime(idle=600, absolute=3600))

    def remember(session: Session) -> None:
        session.login("bob")
        session.persistent = True

    one, two = site.browser(), site.browser()
    site.run(one, remember)
    site.run(two, remember)

    assert token(one) != token(two)
    for _ in range(7):
        site.clock.advance(500)
        site.run(one, read)
    site.clock.advance(100)
    assert site.run(one, lambda s: s.owner).text == "None"


@known("express-session-1.19.0-outage")
def test_an_outage_is_never_no_session() -> None:
    store = FaultyStore(MemoryStore())
    site, browser = started(store=store)
    store.fail("load")

    assert site.run(browser, read).code == 503


@known("ZF2015-01", "SS-2017-006")
def test_what_a_client_says_of_itself_opens_nothing() -> None:
    """There are no validators that could be left out: see decisions.py, BN-1."""
    site, browser = started()

    for extra in ({"HTTP_USER_AGENT": "x"}, {"REMOTE_ADDR": "198.51.100.7"}):
        assert site.run(site.browser(**extra), read).text == "{}"
        assert site.run(sending(site, f"session={token(browser)}", **extra), read).text != "{}"


def test_every_known_vulnerability_has_a_test() -> None:
    marks = [mark for test in globals().values() for mark in getattr(test, "pytestmark", ())]
    tested = {name for mark in marks if mark.name == "known" for name in mark.args}
    missing = []
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            names = re.findall(
                r"CVE-\d+-\d+|GHSA(?:-\w{4}){3}|GO-\d+-\d+|ZF2015-01|SS-\d+-\d+", row["id"]
            )
            if not all(name in tested for name in names):
                missing.append(row["id"])
            if not names and not _told(row, tested):
                missing.append(f"{row['number']}: {row['component']}")

    assert missing == []


def _told(row: dict[str, str], tested: set[str]) -> bool:
    """Whether one without a number is tested under its product's name."""
    words = re.findall(r"[a-z]{4,}", f"{row['id']} {row['component']}".lower())
    return any(word in name.lower() for word in words for name in tested if "-" in name)
