"""What a Django project gains: the same walks on Django's own engines fail, each in its way."""

# Models can be imported once Django is set up, and not before.
# ruff: noqa: E402 # as the line above says

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from django_site import Site, set_up, site

set_up()

from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client, override_settings

from wsgi_sessions.django import sessions

DJANGOS = "django.contrib.sessions.backends."
OURS = "wsgi_sessions.django"


class Cache(LocMemCache):
    """A cache that can be down."""

    down = False

    def get(self, *args: Any, **options: Any) -> Any:
        if self.down:
            raise ConnectionError
        return super().get(*args, **options)


@pytest.fixture(
    params=[
        pytest.param(OURS, id="ours"),
        *(
            pytest.param(DJANGOS + name, id=name, marks=pytest.mark.xfail(strict=True))
            for name in ("db", "cache", "file")
        ),
    ]
)
def shop(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Site]:
    with ExitStack() as stack:
        made = stack.enter_context(site())
        if request.param != OURS:
            from django.conf import settings

            middleware = "django.contrib.sessions.middleware.SessionMiddleware"
            stack.enter_context(
                override_settings(
                    MIDDLEWARE=[middleware, *settings.MIDDLEWARE[1:]],
                    SESSION_ENGINE=request.param,
                    SESSION_FILE_PATH=str(tmp_path),
                    CACHES={"default": {"BACKEND": f"{__name__}.Cache", "LOCATION": str(tmp_path)}},
                )
            )
        yield made


@pytest.fixture
def ada() -> Iterator[User]:
    user = User.objects.create_user("ada", password="pw")
    yield user
    user.delete()


def put(request: Any, **values: Any) -> str:
    request.session.update(values)
    return "kept"


def twin_of(client: Any) -> Any:
    twin = Client(raise_request_exception=False)
    twin.cookies["sessionid"] = client.cookies["sessionid"].value
    return twin


def test_two_requests_that_change_different_keys_both_count(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=0, b=0))

    def slow(request: Any) -> str:
        request.session["a"] = 1
        shop.run(twin_of(client), lambda r: put(r, b=1), "twin")
        return "-"

    shop.run(client, slow)

    assert dict(client.session.items()) == {"a": 1, "b": 1}


def test_a_slower_write_neither_undoes_a_sign_out_nor_fails(shop: Site, ada: User) -> None:
    client = shop.client()
    client.force_login(ada)

    def slow(request: Any) -> str:
        request.session["a"] = 1
        shop.run(twin_of(client), lambda r: logout(r), "twin")
        return "-"

    response = shop.run(client, slow)

    assert response.status_code == 200 and "sessionid" not in response.cookies
    assert not dict(client.session.items())


def test_nested_changes_are_kept(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, cart=["tea"]))

    shop.run(client, lambda r: r.session["cart"].append("milk"))

    assert client.session["cart"] == ["tea", "milk"]


def test_types_come_back_exactly(shop: Site, request: pytest.FixtureRequest) -> None:
    if "[cache]" in request.node.name:
        pytest.xfail("it keeps them, by pickle: who can write into the cache can run code")
    client = shop.client()
    values = {"seen": (1, 2), "at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\x00"}

    shop.run(client, lambda r: put(r, **values))

    assert dict(client.session.items()) == values


def test_a_users_sessions_are_listed_and_revoked(shop: Site, ada: User) -> None:
    here, there = shop.client(), shop.client()
    here.force_login(ada)
    there.force_login(ada)

    assert len(sessions().registry.sessions(str(ada.pk))) == 2
    sessions().registry.revoke_all(str(ada.pk))

    assert shop.run(here, lambda r: r.user.username).content == b""
    assert shop.run(there, lambda r: r.user.username).content == b""


def test_a_store_that_is_down_signs_nobody_out(
    shop: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, ada: User
) -> None:
    if "[cache]" not in request.node.name and "[ours]" not in request.node.name:
        pytest.xfail("a database or a directory that is down is an exception; here a cache's turn")
    client = shop.client()
    client.force_login(ada)
    shop.store.fail("load")
    monkeypatch.setattr(Cache, "down", True)

    response = shop.run(client, lambda r: r.user.username)
    assert response.status_code == 503 and response["Retry-After"]

    shop.store.recover()
    monkeypatch.setattr(Cache, "down", False)
    assert shop.run(client, lambda r: r.user.username).content == b"ada"
