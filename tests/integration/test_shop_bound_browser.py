"""The example shop with sessions bound to the device, in real Chromium."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import chromium
import shop
import tls
from programs import missing

pytestmark = pytest.mark.programs

sys.path.insert(0, str(shop.EXAMPLES))
flask_app: Any = importlib.import_module("flask_app")

# Both are needed: the second puts keys into software where there is no TPM.
FEATURES = "--enable-features=DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"
# A real name, as localhost has no registrable domain.
NAMES = "--host-resolver-rules=MAP *.test 127.0.0.1"
SECOND = "__Host-shop-bound"


class Opened(NamedTuple):
    window: chromium.Window
    base: str
    posts: list[str]
    """What the browser asked by itself, and how that was answered: "refresh 200"."""

    def bound(self) -> str:
        """What the session page says of the device."""
        self.window.open(f"{self.base}/session")
        return self.window.text("#bound") or ""

    def wait_for(self, cookie: str) -> None:
        deadline = time.monotonic() + chromium.PATIENCE
        while cookie not in self.window.cookies():
            assert time.monotonic() < deadline, self.posts
            time.sleep(0.02)

    def lose(self, name: str) -> None:
        """As when the cookie's time is over, without waiting for that."""
        self.window.driver.execute_cdp_cmd(
            "Network.deleteCookies", {"name": name, "url": self.base}
        )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    if chromium.programs() is None:
        missing("browser", "chromium or chromedriver is not installed")
    settings = {"SHOP_VAR": str(tmp_path), "SHOP_BINDING": "refuse", "SHOP_COOKIE": "host"}
    app = flask_app.make_app(settings)
    posts: list[str] = []

    def watched(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        route = re.search(r"/device-binding/(\w+)$", environ["PATH_INFO"])

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            if route is not None:
                posts.append(f"{route[1]} {status[:3]}")
            return start_response(status, headers, *([exc_info] if exc_info else []))

        answer: Iterable[bytes] = app(environ, start)
        return answer

    with (
        tls.serving(watched) as served,
        chromium.browser(None, served.flag, FEATURES, NAMES) as window,
    ):
        port = served.base.rpartition(":")[2]
        yield Opened(window, f"https://shop.tea.test:{port}", posts)


def test_one_variable_binds_the_shops_sessions(opened: Opened) -> None:
    window = opened.window

    window.sign_in(opened.base, "Ada")
    opened.wait_for(SECOND)

    assert "register 200" in opened.posts
    assert re.fullmatch(r"since \d\d \w+ \d{4}, \d\d:\d\d UTC, and proven", opened.bound())
    window.open(f"{opened.base}/devices")
    assert window.find(".here mark") == ["this device", "bound"]

    window.open(opened.base)
    window.click("form[action='/cart/cup'] button")
    opened.lose(SECOND)
    assert opened.bound().endswith("and proven")
    assert "refresh 200" in opened.posts
    assert SECOND in window.cookies()
    assert window.text("#owner") == "Ada"
    assert window.text("#in-cart") == "1"

    window.click("#sign-out")
    assert window.text("#owner") is None
    assert SECOND not in window.cookies()
    assert opened.bound() == "no"
    assert window.text("#owner") is None
