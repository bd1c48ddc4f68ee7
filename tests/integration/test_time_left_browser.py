"""The shop's warning before a session ends, in real Chromium."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait

import chromium
import shop
import tls
from programs import missing
from wsgi_sessions.testing import FakeClock

pytestmark = pytest.mark.programs

sys.path.insert(0, str(shop.EXAMPLES))

DIALOG = "#ending[open]"


@pytest.fixture
def window() -> Iterator[chromium.Window]:
    if chromium.programs() is None:
        missing("browser", "chromium or chromedriver is not installed")
    with chromium.browser() as opened:
        yield opened


def until(window: chromium.Window, holds: Callable[[], object]) -> None:
    WebDriverWait(window.driver, chromium.PATIENCE, 0.05).until(lambda _: holds())


@contextmanager
def by_this_clock(clock: FakeClock, var: Path, idle: int) -> Iterator[str]:
    """The shop, whose sessions last so many seconds of a clock that stands still; its address."""
    with tls.serving(shop.app_by(clock, SHOP_VAR=str(var), SHOP_IDLE=str(idle))) as served:
        yield served.base


def test_it_warns_and_leaves_when_the_session_has_ended(
    window: chromium.Window, tmp_path: Path
) -> None:
    clock = FakeClock(time.time())
    with by_this_clock(clock, tmp_path, 4) as base:
        window.sign_in(base, "ada")

        until(window, lambda: window.find(DIALOG))
        assert "You will be signed out in one minute." in (window.text(DIALOG) or "")
        clock.advance(5)
        until(window, lambda: window.driver.current_url == f"{base}/sign-in")


def test_staying_closes_the_warning(window: chromium.Window, tmp_path: Path) -> None:
    clock = FakeClock(time.time())
    with by_this_clock(clock, tmp_path, 122) as base:
        window.sign_in(base, "ada")
        assert not window.find(DIALOG)
        clock.advance(2)
        until(window, lambda: window.find(DIALOG))
        assert "2 minutes" in (window.text(DIALOG) or "")

        window.driver.execute_script("document.querySelector('#ending button').click()")

        until(window, lambda: not window.find(DIALOG))
        assert window.text("#owner") == "ada"


def test_a_sign_out_elsewhere_is_noticed_when_the_page_is_looked_at(
    window: chromium.Window,
) -> None:
    with shop.running(*shop.WAITRESS) as base:
        window.sign_in(base, "ada")
        assert not window.find(DIALOG)
        window.forget()

        window.driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")

        until(window, lambda: window.driver.current_url == f"{base}/sign-in")
