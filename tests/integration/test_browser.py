"""The example shop in real Chromium: what only a browser can tell about cookies and caches."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import chromium
import shop
from programs import missing

pytestmark = pytest.mark.programs

# Shared by all tests here, because a browser takes a second to start.
WINDOWS = 2


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    if chromium.programs() is None:
        missing("browser", "chromium or chromedriver is not installed")


@pytest.fixture(scope="module")
def plain(programs: None) -> Iterator[str]:
    with shop.running(*shop.WAITRESS) as base:
        yield base


@pytest.fixture(scope="module")
def open_windows(programs: None) -> Iterator[list[chromium.Window]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(chromium.browser()) for _ in range(WINDOWS)]


@pytest.fixture
def windows(open_windows: list[chromium.Window]) -> list[chromium.Window]:
    """Two browsers, with nothing in their cookie jars."""
    for window in open_windows:
        window.open("about:blank")
        window.forget()
    return open_windows


@pytest.fixture
def window(windows: list[chromium.Window]) -> chromium.Window:
    return windows[0]


def test_the_cart_stays_and_the_id_changes_at_sign_in(plain: str, window: chromium.Window) -> None:
    window.open(plain)
    window.click(".teapot button")
    window.click(".cup button")
    before = window.cookies()["shop"]["value"]

    window.sign_in(plain, "Ada")

    assert window.text("#owner") == "Ada"
    assert window.text("#in-cart") == "2"
    assert window.cookies()["shop"]["value"] != before


def test_scripts_do_not_see_the_cookie(plain: str, window: chromium.Window) -> None:
    window.open(plain)

    assert window.cookies()["shop"]["httpOnly"]
    assert window.driver.execute_script("return document.cookie") == ""


def test_one_browser_signs_out_the_other(plain: str, windows: list[chromium.Window]) -> None:
    here, there = windows
    there.sign_in(plain, "grace")
    here.sign_in(plain, "grace")
    here.open(f"{plain}/devices")
    assert here.find("mark") == ["this device"]

    here.click("li:not(.here) button")
    there.open(plain)

    assert there.text("#owner") is None
    assert here.text("#owner") == "grace"
    assert len(here.find(".devices li")) == 1


def test_the_back_button_shows_nothing_private_after_sign_out(
    plain: str, window: chromium.Window
) -> None:
    window.open(plain)
    window.click(".kettle button")
    window.sign_in(plain, "ada")
    window.open(f"{plain}/cart")
    assert window.find(".what b") == ["Copper kettle"]
    window.click("#sign-out")

    for _ in range(3):
        window.driver.back()
        window.loaded()
        page = window.driver.page_source

        assert "ada" not in (window.find("#owner") or [""])
        assert window.text("#in-cart") == "0"
        assert "€89.00 each" not in page


@pytest.mark.parametrize(("remember", "owner"), [(True, "ada"), (False, None)])
def test_remember_me_decides_over_a_restart_of_the_browser(
    plain: str, tmp_path: Path, *, remember: bool, owner: str | None
) -> None:
    with chromium.browser(tmp_path) as before:
        before.sign_in(plain, "ada", remember=remember)
        assert before.text("#owner") == "ada"
    with chromium.browser(tmp_path) as after:
        after.open(plain)

        assert after.text("#owner") == owner


# Over TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of a certificate for *.test that nobody signed but itself, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(directory / "cert.pem"), str(directory / "key.pem")


@contextlib.contextmanager
def over_tls(certificate: tuple[str, str], cookie: str) -> Iterator[str]:
    cert, key = certificate
    # Threads, because browsers open connections in advance, which would keep a worker waiting.
    command = (*shop.GUNICORN, "--threads", "8", "--certfile", cert, "--keyfile", key)
    with shop.running(*command, SHOP_COOKIE=cookie) as base:
        yield base.replace("http:", "https:")


def test_a_host_cookie_is_accepted_over_tls(
    certificate: tuple[str, str], window: chromium.Window
) -> None:
    with over_tls(certificate, "host") as base:
        window.sign_in(base, "ada")
        window.open(f"{base}/session")

        cookie = window.cookies()["__Host-shop"]
        assert window.text("#owner") == "ada"
        assert window.text("#secure") == "yes, HTTPS"
        assert (cookie["secure"], cookie["httpOnly"], cookie["path"]) == (True, True, "/")
        assert cookie["sameSite"] == "Lax"


FRAME = """<!doctype html><title>Another site</title><iframe src="{}/"></iframe>"""


@contextlib.contextmanager
def embedding(address: str) -> Iterator[int]:
    """A site that shows the shop in a frame; gives its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(FRAME.format(address).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_partitioned_cookie_works_in_a_frame_and_only_under_that_site(
    certificate: tuple[str, str],
) -> None:
    # Two sites need two names; and third-party cookies are off, as many people have it.
    names = "--host-resolver-rules=MAP shop.test 127.0.0.1,MAP *.example 127.0.0.1"
    with over_tls(certificate, "embedded") as base:
        shop_there = base.replace("localhost", "shop.test")
        with (
            embedding(shop_there) as port,
            chromium.browser(None, names, "--test-third-party-cookie-phaseout") as window,
        ):
            counts = []
            for site in ("one.example", "one.example", "two.example"):
                window.open(f"http://{site}:{port}/")
                window.driver.switch_to.frame(0)
                window.loaded()
                window.click(".honey button")
                counts.append(window.text("#in-cart"))

            assert counts == ["1", "2", "1"]
            window.open(shop_there)
            assert window.text("#in-cart") == "0"
