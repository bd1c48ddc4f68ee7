"""Device binding in real Chromium, headless, with keys in software: what only a browser can tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import chromium
import tls
from bound_app import COOKIE, SECRET, BoundApp
from programs import missing
from wsgi_sessions import DeviceBinding, Session
from wsgi_sessions.crypto.session_id import SessionID, new_id
from wsgi_sessions.device_binding import Binder
from wsgi_sessions.testing import FakeClock

pytestmark = pytest.mark.programs

# Both are needed: the second puts keys into software where there is no TPM.
FEATURES = "--enable-features=DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"
# Real names, as localhost has no registrable domain; all of them are this machine.
NAMES = "--host-resolver-rules=MAP *.test 127.0.0.1"
SECOND = "__Host-s-bound"
# Of two bindings that want one cookie Chromium refreshes the one with the smaller identifier; if
# that brings the cookie, it leaves the other alone.
FORMER_FIRST = sorted((new_id() for _ in range(2)), key=lambda made: SessionID(made).key)


class Setting(NamedTuple):
    site: BoundApp
    app: str
    """The app's address."""
    elsewhere: str
    """The address of a page on another site."""
    flags: tuple[str, ...]


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    if chromium.programs() is None:
        missing("browser", "chromium or chromedriver is not installed")


class Sites:
    """One WSGI app for all tests here; each test's site has a name of its own.

    So one browser serves them all: keys, cookies and the quota of signatures belong to a site.
    """

    def __init__(self) -> None:
        self.by_host: dict[str, BoundApp] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        site = self.by_host.get(environ["HTTP_HOST"].partition(":")[0])
        if site is not None:
            return site(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"elsewhere"]


@pytest.fixture(scope="module")
def sites(programs: None) -> Iterator[tuple[Sites, tls.Served]]:
    sites = Sites()
    with tls.serving(sites) as served:
        yield sites, served


@pytest.fixture(scope="module")
def window(sites: tuple[Sites, tls.Served]) -> Iterator[chromium.Window]:
    with chromium.browser(None, sites[1].flag, FEATURES, NAMES) as window:
        yield window


@pytest.fixture
def clock() -> FakeClock:
    """The server's clock."""
    return FakeClock(time.time())


@pytest.fixture
def setting(sites: tuple[Sites, tls.Served], clock: FakeClock) -> Setting:
    all_sites, served = sites
    site = BoundApp(
        DeviceBinding(exclude=["/static/", "/favicon.ico"], grace=0),
        clock=clock,
        rotate_after=60,
    )
    site.routes["/favicon.ico"] = site.routes["/none"]
    host = f"app.site{len(all_sites.by_host)}.test"
    all_sites.by_host[host] = site
    port = served.base.rpartition(":")[2]
    return Setting(
        site,
        f"https://{host}:{port}",
        f"https://idp.other.test:{port}",
        (served.flag, FEATURES, NAMES),
    )


def until(happened: Callable[[], Any]) -> Any:
    """What this gives, once it gives something."""
    deadline = time.monotonic() + chromium.PATIENCE
    while True:
        found = happened()
        if found or time.monotonic() > deadline:
            assert found
            return found
        time.sleep(0.02)


def posts(setting: Setting, route: str) -> list[dict[str, Any]]:
    """The requests that the browser made by itself to a route, with their answers."""
    return [entry for entry in setting.site.log if entry["path"].endswith(f"/{route}")]


def statuses(setting: Setting, route: str) -> list[str]:
    return [entry["status"][:3] for entry in posts(setting, route)]


def pages(setting: Setting) -> list[dict[str, Any]]:
    return [entry for entry in setting.site.log if entry["path"] == "/page"]


def sign_in(setting: Setting, window: chromium.Window) -> None:
    """Sign in, and wait until the browser has the second cookie."""
    before = len(posts(setting, "register"))
    window.open(f"{setting.app}/login")
    until(lambda: len(posts(setting, "register")) > before)
    until(lambda: SECOND in window.cookies())
    window.open(f"{setting.app}/page")
    assert '"proven": true' in str(window.text("body"))
    setting.site.log.clear()


def lose(setting: Setting, window: chromium.Window, name: str = SECOND) -> None:
    """As when its time is over, without waiting for that."""
    window.driver.execute_cdp_cmd("Network.deleteCookies", {"name": name, "url": setting.app})


def go_from_elsewhere(setting: Setting, window: chromium.Window, path: str) -> None:
    window.open(f"{setting.elsewhere}/x")
    window.driver.execute_script(f"location.href = '{setting.app}{path}'")
    until(lambda: window.driver.current_url.startswith(setting.app))
    window.loaded()


def test_signing_in_binds_the_session(setting: Setting, window: chromium.Window) -> None:
    window.open(f"{setting.app}/login")
    (post,) = until(lambda: posts(setting, "register"))

    assert post["status"] == "200 OK"
    assert post["HTTP_SEC_FETCH_SITE"] == "same-origin"
    assert post["HTTP_ORIGIN"] == setting.app
    until(lambda: SECOND in window.cookies())
    cookie = window.cookies()[SECOND]
    assert cookie["httpOnly"]
    assert cookie["secure"]


def test_the_browser_gets_a_lost_cookie_anew_before_it_asks(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)
    lose(setting, window)

    window.open(f"{setting.app}/page")

    assert '"proven": true' in str(window.text("body"))
    assert statuses(setting, "refresh") == ["403", "200"]


def test_the_next_refresh_takes_a_single_round_trip(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)
    for _ in range(2):
        lose(setting, window)
        window.open(f"{setting.app}/page")

    assert statuses(setting, "refresh") == ["403", "200", "200"]


def test_a_refresh_is_one_read_and_no_write(setting: Setting, window: chromium.Window) -> None:
    sign_in(setting, window)
    for _ in range(2):
        lose(setting, window)
        setting.site.forget()
        window.open(f"{setting.app}/page")

    # One for the refresh, one for the page.
    assert setting.site.store.calls == {"load": 2}


def test_signing_in_again_and_rotation_keep_the_binding(
    setting: Setting, window: chromium.Window, clock: FakeClock
) -> None:
    sign_in(setting, window)
    tokens = {window.cookies()["__Host-s"]["value"]}
    window.open(f"{setting.app}/login")
    tokens.add(window.cookies()["__Host-s"]["value"])
    lose(setting, window)
    window.open(f"{setting.app}/page")
    after_login = str(window.text("body"))
    clock.advance(100)
    window.open(f"{setting.app}/page")
    tokens.add(window.cookies()["__Host-s"]["value"])
    lose(setting, window)
    window.open(f"{setting.app}/page")

    assert '"proven": true' in after_login
    assert '"proven": true' in str(window.text("body"))
    assert len(tokens) == 3
    assert setting.site.kinds.count("rotated") == 1
    assert posts(setting, "register") == []
    assert statuses(setting, "refresh") == ["403", "200", "200"]


def test_signing_in_after_signing_out_binds_anew(setting: Setting, window: chromium.Window) -> None:
    sign_in(setting, window)
    window.open(f"{setting.app}/logout")
    sign_in(setting, window)
    lose(setting, window)

    window.open(f"{setting.app}/page")

    assert '"proven": true' in str(window.text("body"))


def test_requests_at_the_same_time_wait_for_one_refresh(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)
    lose(setting, window)

    window.driver.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...Array(8)].map((_, i) => fetch('/page?' + i))).then(() => done())"
    )

    assert statuses(setting, "refresh") == ["403", "200"]
    assert len(pages(setting)) == 8
    assert all('"proven": true' in page["body"] for page in pages(setting))


def test_what_is_excluded_does_not_wait(setting: Setting, window: chromium.Window) -> None:
    sign_in(setting, window)
    lose(setting, window)

    window.driver.execute_async_script("fetch('/static/x').then(arguments[0])")

    assert posts(setting, "refresh") == []
    assert '"session": null' in setting.site.log[-1]["body"]


def test_cookies_in_another_browser_are_worth_minutes(
    setting: Setting, window: chromium.Window, clock: FakeClock
) -> None:
    sign_in(setting, window)
    copied = [
        {"name": name, "value": cookie["value"], "url": setting.app}
        for name, cookie in window.cookies().items()
    ]

    with chromium.browser(None, *setting.flags) as thief:
        thief.driver.execute_cdp_cmd(
            "Network.setCookies",
            {"cookies": [{**one, "secure": True, "path": "/"} for one in copied]},
        )
        thief.open(f"{setting.app}/page")
        at_once = str(thief.text("body"))
        clock.advance(700)
        thief.open(f"{setting.app}/page")
        later = str(thief.text("body"))

    assert '"proven": true' in at_once
    assert '"session": null' in later
    assert posts(setting, "refresh") == []


def test_a_restart_of_the_browser_keeps_the_binding(setting: Setting, tmp_path: Path) -> None:
    with chromium.browser(tmp_path, *setting.flags) as window:
        sign_in(setting, window)
        kept = window.cookies()["__Host-s"]["value"]
        # The browser writes its state down by itself when it ends.
    with chromium.browser(tmp_path, *setting.flags) as window:
        window.driver.execute_cdp_cmd(
            "Network.setCookie",
            {
                "name": "__Host-s",
                "value": kept,
                "url": setting.app,
                "secure": True,
                "path": "/",
                "httpOnly": True,
            },
        )
        lose(setting, window)
        window.open(f"{setting.app}/page")

        assert '"proven": true' in str(window.text("body"))
    assert statuses(setting, "refresh") == ["403", "200"]


def test_a_store_that_is_down_signs_nobody_out(setting: Setting, window: chromium.Window) -> None:
    sign_in(setting, window)
    lose(setting, window)
    setting.site.store.fail("load")
    window.open(f"{setting.app}/page")
    skipped = pages(setting)[-1]["HTTP_SECURE_SESSION_SKIPPED"]
    setting.site.store.recover()

    window.open(f"{setting.app}/page")

    assert skipped.startswith("server_error;")
    assert '"proven": true' in str(window.text("body"))
    assert statuses(setting, "refresh") == ["503", "403", "200"]


def test_signing_out_ends_the_binding_in_the_browser(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)

    window.open(f"{setting.app}/logout")
    window.open(f"{setting.app}/page")
    window.open(f"{setting.app}/page")

    assert '"session": null' in str(window.text("body"))
    (post,) = posts(setting, "refresh")
    assert post["status"] == "200 OK"
    assert '"continue":false' in post["body"]


def test_being_signed_out_elsewhere_ends_it_too(setting: Setting, window: chromium.Window) -> None:
    sign_in(setting, window)
    setting.site.middleware.registry.revoke_all("ada")
    lose(setting, window)

    window.open(f"{setting.app}/page")
    window.open(f"{setting.app}/page")

    assert '"session": null' in str(window.text("body"))
    assert statuses(setting, "refresh") == ["200"]


def test_dbsc_12_3_signing_in_on_the_way_back_from_another_site_binds(
    setting: Setting, window: chromium.Window
) -> None:
    go_from_elsewhere(setting, window, "/login")
    (post,) = until(lambda: posts(setting, "register"))

    assert post["status"] == "200 OK"
    assert "HTTP_COOKIE" not in post
    assert post["HTTP_SEC_FETCH_SITE"] == "same-origin"
    until(lambda: SECOND in window.cookies())
    window.open(f"{setting.app}/page")
    assert '"proven": true' in str(window.text("body"))


def test_dbsc_12_1_a_link_from_another_site_refreshes_first(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)
    lose(setting, window)

    go_from_elsewhere(setting, window, "/page")

    assert '"proven": true' in str(window.text("body"))
    assert statuses(setting, "refresh") == ["403", "200"]
    assert "HTTP_COOKIE" not in posts(setting, "refresh")[0]


def test_a_binding_of_a_former_session_ends_when_the_browser_has_another(
    setting: Setting, window: chromium.Window
) -> None:
    setting.site.ids = [*FORMER_FIRST]
    sign_in(setting, window)
    lose(setting, window, "__Host-s")
    # Its answer takes back the former's second cookie, which the browser then asks for.
    window.open(f"{setting.app}/login")
    until(lambda: posts(setting, "register"))
    until(lambda: SECOND in window.cookies())
    lose(setting, window)

    window.open(f"{setting.app}/page")

    assert '"proven": true' in str(window.text("body"))
    assert sorted(statuses(setting, "refresh")) == ["200", "400", "403"]


def test_a_former_sessions_second_cookie_is_taken_back_so_that_the_next_request_is_proven(
    setting: Setting, window: chromium.Window
) -> None:
    sign_in(setting, window)
    former = window.cookies()[SECOND]
    lose(setting, window, "__Host-s")
    sign_in(setting, window)
    # As from a refresh of the former session that was under way meanwhile.
    kept = ("name", "value", "path", "secure", "httpOnly", "sameSite", "expires")
    again = {name: former[name] for name in kept if name in former}
    window.driver.execute_cdp_cmd("Network.setCookie", {"url": setting.app, **again})
    window.open(f"{setting.app}/page")
    assert '"session": null' in str(window.text("body"))

    window.open(f"{setting.app}/page")

    assert '"proven": true' in str(window.text("body"))


def test_an_offer_too_many_does_no_harm(
    setting: Setting, window: chromium.Window, clock: FakeClock
) -> None:
    sign_in(setting, window)
    binder = Binder(DeviceBinding(), COOKIE, (SECRET.encode(),))

    def offer(session: Session) -> None:
        made = binder.offer(session.handle, now=clock(), script_name="")
        assert made is not None
        setting.site.headers = [made]

    setting.site.routes["/offer"] = offer
    window.open(f"{setting.app}/offer")
    setting.site.headers = []
    until(lambda: posts(setting, "register"))
    lose(setting, window)

    window.open(f"{setting.app}/page")

    # Whatever else the browser asks for at that moment, such as an icon, has the offer, too.
    assert set(statuses(setting, "register")) == {"403"}
    assert '"proven": true' in str(window.text("body"))


def test_other_browsers_go_on_as_before(setting: Setting) -> None:
    plain = [flag for flag in setting.flags if flag != FEATURES]
    with chromium.browser(None, *plain) as window:
        window.open(f"{setting.app}/login")
        window.open(f"{setting.app}/page")

        assert '"bound": false' in str(window.text("body"))
        assert '"owner": "ada"' in str(window.text("body"))
        assert posts(setting, "register") == []
