"""The example shop under real servers, by visitors with a real cookie jar."""

from __future__ import annotations

from pathlib import Path

import pytest

import shop

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", [shop.WAITRESS, shop.GUNICORN], ids=["waitress", "gunicorn"])
def test_the_walk_over_http(command: tuple[str, ...]) -> None:
    with shop.running(*command) as base:
        shop.walk(shop.over_http(base))


@pytest.mark.parametrize("command", [shop.WAITRESS, shop.GUNICORN], ids=["waitress", "gunicorn"])
def test_the_walk_over_http_on_sqlite(command: tuple[str, ...], tmp_path: Path) -> None:
    with shop.running(*command, STORE_URL=f"sqlite:///{tmp_path}/sessions.db") as base:
        shop.walk(shop.over_http(base))


@pytest.mark.parametrize("kept", ["files", "sqlite"])
def test_two_visitors_of_several_processes(kept: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db" if kept == "sqlite" else ""
    with shop.running(*shop.GUNICORN, STORE_URL=url) as base:
        phone, laptop = shop.over_http(base), shop.over_http(base)
        phone.sign_in("ada")
        laptop.sign_in("ada", remember=True)
        laptop.get("/devices")
        laptop.post("/devices/sign-out-others")
        phone.get("/")
        laptop.get("/")

        assert (phone.owner, laptop.owner) == (None, "ada")
