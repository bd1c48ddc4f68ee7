"""A view that says that it isn't use, in each framework's own words (Flask's: engine/test_passive)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from django_site import VIEWS, site
from frameworks.test_bottle import Shop as BottleShop
from frameworks.test_falcon import Shop as FalconShop
from frameworks.test_pyramid import Shop as PyramidShop
from wsgi import Browser
from wsgi_sessions import Lifetime
from wsgi_sessions.testing import FakeClock

Do = Callable[[Callable[[Any], Any]], Any]
LIFETIME = Lifetime(idle=timedelta(minutes=30), absolute=timedelta(hours=12))


def _django(clock: FakeClock) -> Generator[Do]:
    with site(clock=clock, lifetime=LIFETIME) as made:
        client = made.client()
        try:
            yield lambda use: made.run(client, lambda request: use(request.session))
        finally:
            VIEWS.pop("run", None)


def _pyramid(clock: FakeClock) -> Generator[Do]:
    shop = PyramidShop(clock=clock, lifetime=LIFETIME)
    browser = Browser(shop.app)
    yield lambda use: shop.run(browser, lambda request: use(request.session))


def _falcon(clock: FakeClock) -> Generator[Do]:
    shop = FalconShop(clock=clock, lifetime=LIFETIME)
    browser = Browser(shop.app)
    yield lambda use: shop.run(browser, lambda req, resp: use(req.context.session))


def _bottle(clock: FakeClock) -> Generator[Do]:
    from bottle import request

    shop = BottleShop(clock=clock, lifetime=LIFETIME)
    browser = Browser(shop.app)
    todo: list[Callable[[Any], Any]] = []
    shop.app.get("/run", callback=lambda: str(todo.pop()(request.session)))

    def do(use: Callable[[Any], Any]) -> Any:
        todo.append(use)
        return browser.get("/run")

    yield do


@pytest.mark.parametrize("framework", [_django, _pyramid, _falcon, _bottle])
@pytest.mark.parametrize("passive", [True, False])
def test_a_view_can_say_that_it_is_no_use(
    framework: Callable[[FakeClock], Generator[Do]], passive: bool
) -> None:
    clock = FakeClock(1_800_000_000.0)
    seen: list[Any] = []

    def begin(session: Any) -> None:
        session["n"] = 1

    def poll(session: Any) -> None:
        if passive:
            session.passive = True
        seen.append(session.get("n"))

    requests = framework(clock)
    do = next(requests)
    do(begin)
    for _ in range(3):
        clock.advance(timedelta(minutes=14))
        do(poll)
    requests.close()

    assert seen == ([1, 1, None] if passive else [1, 1, 1])
