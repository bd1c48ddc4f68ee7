"""`make screenshots`: writes docs/images/*.png from the example shop in Chromium."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

import chromium
import shop

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 15.0; rv:140.0) Gecko/20100101 Firefox/140.0"


def call_yourself(window: chromium.Window, user_agent: str) -> None:
    window.driver.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": user_agent})


def size(window: chromium.Window, width: int, height: int, *, scale: float = 1.5) -> None:
    window.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500},
    )


def dark(window: chromium.Window, *, on: bool) -> None:
    feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def arrive_through(window: chromium.Window, *chain: str) -> None:
    """Send what two proxies would have written: who was before each, and the scheme."""
    headers = dict(zip(("X-Forwarded-For", "X-Forwarded-Proto"), chain, strict=False))
    window.driver.execute_cdp_cmd("Network.enable", {})
    window.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": headers})


def take(window: chromium.Window, name: str) -> None:
    """Write what is seen, in 256 colours: flat pictures lose nothing by that."""
    image = Image.open(io.BytesIO(window.driver.get_screenshot_as_png())).convert("RGB")
    path = IMAGES / f"{name}.png"
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(Path.cwd())}  {path.stat().st_size // 1024} KB")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with shop.running(*shop.WAITRESS) as base, chromium.browser() as window:
        for user_agent in (PHONE, MAC):
            call_yourself(window, user_agent)
            window.sign_in(base, "Ada", remember=True)
            window.forget()
        call_yourself(window, "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36")
        size(window, 1100, 860)
        dark(window, on=False)
        window.open(base)
        for product in ("teapot", "tin", "tin", "honey"):
            window.click(f".card.{product} button")
        window.sign_in(base, "Ada", remember=True)
        window.open(base)
        take(window, "shop")
        dark(window, on=True)
        take(window, "shop-dark")
        dark(window, on=False)
        size(window, 1100, 640)
        for page in ("cart", "devices"):
            window.open(f"{base}/{page}")
            take(window, page)
        size(window, 1100, 1220)
        window.open(f"{base}/session")
        take(window, "session")
        arrive_through(window, "203.0.113.7, 198.51.100.2", "https")
        size(window, 780, 1000)
        window.open(f"{base}/proxy/probe/")
        take(window, "probe")
        arrive_through(window)
        size(window, 390, 780, scale=2)
        window.open(base)
        take(window, "shop-phone")
        window.open(f"{base}/cart")
        take(window, "cart-phone")


if __name__ == "__main__":
    main()
