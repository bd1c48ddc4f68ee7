"""Real, headless Chromium for the tests and the screenshots, driven by Selenium."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ports import free_port

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-features=HttpsUpgrades,LocalNetworkAccessChecks",  # plain http, on loopback
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
PATIENCE = 100
"""Seconds after which a page, or what it does by itself, is a failure."""


def programs() -> tuple[str, str] | None:
    """The paths of Chromium and its driver; None where one is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return None if browser is None or driver is None else (browser, driver)


class Window:
    """One browser and the page that it shows."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)

    def find(self, css: str) -> list[str]:
        """The texts of what this selects."""
        return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, css)]

    def text(self, css: str) -> str | None:
        found = self.find(css)
        return found[0] if found else None

    def click(self, css: str) -> None:
        """Press a button that loads another page, and wait for that."""
        button = self.driver.find_element(By.CSS_SELECTOR, css)
        page = self.driver.find_element(By.TAG_NAME, "html")
        self.driver.execute_script("arguments[0].click()", button)
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: _gone(page))
        self.loaded()

    def loaded(self) -> None:
        WebDriverWait(self.driver, PATIENCE, 0.05).until(
            lambda driver: driver.execute_script("return document.readyState") == "complete"
        )

    def write(self, css: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, css).send_keys(text)

    def sign_in(self, base: str, name: str, *, remember: bool = False) -> None:
        self.open(f"{base}/sign-in")
        self.write("#name", name)
        if remember:
            self.driver.find_element(By.CSS_SELECTOR, "#remember").click()
        self.click("#sign-in")

    def cookies(self) -> dict[str, dict[str, Any]]:
        """What the browser keeps for this page and its frames, by name."""
        found = self.driver.execute_cdp_cmd("Network.getCookies", {})["cookies"]
        return {cookie["name"]: cookie for cookie in found}

    def forget(self) -> None:
        self.driver.execute_cdp_cmd("Storage.clearCookies", {})


def _gone(element: Any) -> bool:
    from selenium.common.exceptions import WebDriverException

    try:
        element.is_enabled()
    except WebDriverException:
        return True
    return False


@contextlib.contextmanager
def browser(profile: Path | None = None, *more: str, size: str = "1200,900") -> Iterator[Window]:
    """A browser of its own. With a profile it remembers what a closed browser remembers."""
    paths = programs()
    assert paths is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as fresh:
        options = webdriver.ChromeOptions()
        options.binary_location = paths[0]
        options.accept_insecure_certs = True
        directory = profile or fresh
        for flag in (*_FLAGS, f"--user-data-dir={directory}", f"--window-size={size}", *more):
            options.add_argument(flag)
        # Selenium's own choice is a port that another process may take before the driver does.
        service = Service(paths[1], port=free_port())
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        try:
            yield Window(driver)
        finally:
            driver.quit()
