"""The shop's warning before a session ends, in real Chromium, with sessions that last seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver.support.ui import WebDriverWait

import chromium
import shop
from programs import missing

pytestmark = pytest.mark.programs

DIALOG = "#ending[open]"


@pytest.fixture
def window() -> Iterator[chromium.Window]:
    if chromium.programs() is None:
        missing("browser", "chromium or chromedriver is not installed")
    with chromium.browser() as opened:
        yield opened


def until(window: chromium.Window, holds: Callable[[], object]) -> None:
    WebDriverWait(window.driver, chromium.PATIENCE, 0.05).until(lambda _: holds())


def test_it_warns_and_leaves_when_the_session_has_ended(window: chromium.Window) -> None:
    with shop.running(*shop.WAITRESS, SHOP_IDLE="4") as base:
        window.sign_in(base, "ada")

        until(window, lambda: window.find(DIALOG))
        assert "You will be signed out in one minute." in (window.text(DIALOG) or "")
        until(window, lambda: window.driver.current_url == f"{base}/sign-in")


def test_staying_closes_the_warning(window: chromium.Window) -> None:
    with shop.running(*shop.WAITRESS, SHOP_IDLE="122") as base:
        window.sign_in(base, "ada")
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
