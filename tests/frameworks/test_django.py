"""request.session on top of ours: Django's interface, its auth, its test client, its errors."""

# Models can be imported once Django is set up, and not before.
# ruff: noqa: E402 # as the line above says

from __future__ import annotations

import asyncio
import io
import time
import unittest
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async

import django_site
from django_site import BETWEEN, SECRET, VIEWS, Site, set_up, site

set_up()

from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.backends.file import SessionStore as FileSessionStore
from django.core.management import call_command
from django.core.signals import request_finished
from django.db import models
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import (
    AsyncClient,
    AsyncRequestFactory,
    Client,
    RequestFactory,
    TestCase,
    override_settings,
)
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from wsgi_sessions import (
    Cookie,
    DeviceBinding,
    Lifetime,
    SessionMiddleware,
    TooManySessions,
    get_session,
)
from wsgi_sessions.carry_over import Django as DjangoSource
from wsgi_sessions.django import SessionMiddleware as DjangoMiddleware
from wsgi_sessions.django import SessionStore, sessions
from wsgi_sessions.django.management.commands.clearsessions import Command
from wsgi_sessions.django.middleware import _morsel
from wsgi_sessions.django.owners import connect, file_under_user
from wsgi_sessions.errors import ConfigurationError, SessionTooLarge, StoreError
from wsgi_sessions.stores import Changes, ClientSideStore, MemoryStore, Record
from wsgi_sessions.testing import FakeClock, session_of


@pytest.fixture
def shop() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture
def ada() -> Iterator[User]:
    user = User.objects.create_user("ada", password="pw", is_staff=True, is_superuser=True)
    yield user
    user.delete()


def put(request: Any, **values: Any) -> str:
    request.session.update(values)
    return "kept"


def everything(request: Any) -> str:
    return repr(dict(request.session))


# Requests


def test_a_session_goes_on_from_request_to_request(shop: Site) -> None:
    client = shop.client()

    first = shop.run(client, lambda r: put(r, a=1))
    second = shop.run(client, everything)

    assert first.cookies["sessionid"]["httponly"] is True
    assert first["Vary"] == "Cookie" and first["Cache-Control"] == "no-store"
    assert second.content == b"{'a': 1}"
    assert "sessionid" not in second.cookies


def test_an_untouched_session_costs_nothing(shop: Site) -> None:
    response = shop.run(shop.client(), lambda r: "-")

    assert not response.cookies and "Vary" not in response
    assert not shop.store.calls


def test_changes_inside_values_are_noticed(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, cart=[{"n": 1}]))

    shop.run(client, lambda r: r.session["cart"][0].update(n=2))

    assert client.session["cart"] == [{"n": 2}]


def test_exact_types_come_back(shop: Site) -> None:
    client = shop.client()
    values = {"t": (1, 2), "d": Decimal("1.10"), "at": datetime(2026, 1, 1, tzinfo=UTC), "b": b"x"}

    shop.run(client, lambda r: put(r, **values))

    assert dict(client.session) == values


def test_the_cookies_of_djangos_test_client_are_a_client_to_session_of(shop: Site) -> None:
    client = shop.client()

    with session_of(sessions(), client.cookies) as session:
        session["cart"] = ["tea"]
    assert shop.run(client, lambda r: r.session["cart"]).content == b"['tea']"
    shop.run(client, lambda r: put(r, cart=["milk"]))
    with session_of(sessions(), client.cookies) as session:
        assert session["cart"] == ["milk"]
        session.destroy()

    assert shop.run(client, lambda r: r.session.get("cart")).content == b"None"


def test_what_djangos_serializer_takes_is_taken(shop: Site) -> None:
    class Kind(models.TextChoices):
        TEA = "tea", "Tea"

    class Size(models.IntegerChoices):
        BIG = 2, "Big"

    class Number(float):
        pass

    client = shop.client()
    value = {
        "kind": [Kind.TEA, mark_safe("<b>"), Size.BIG, Number(0.5), True, None],
        "keys": {2: "a", None: "b", True: "c", 1.5: "d", Kind.TEA: ("e",)},
    }

    shop.run(client, lambda r: put(r, value=value, safe=mark_safe("<i>")))

    kept = client.session["value"]
    assert kept["kind"] == ["tea", "<b>", 2, 0.5, True, None]
    assert [type(item) for item in kept["kind"]] == [str, str, int, float, bool, type(None)]
    assert kept["keys"] == {"2": "a", "true": "c", "null": "b", "1.5": "d", "tea": ("e",)}
    assert type(client.session["safe"]) is str and not isinstance(kept["kind"][1], SafeString)


@pytest.mark.parametrize("value", [object(), {object(): 1}, [set()] * 1 + [object()]])
def test_what_nobody_can_store_is_a_500_with_nothing_stored(shop: Site, value: object) -> None:
    client = shop.client()

    response = shop.run(client, lambda r: put(r, a=value))

    assert response.status_code == 500
    assert not client.cookies


def test_nested_too_deep_is_refused(shop: Site) -> None:
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested, mark_safe("x")]

    assert shop.run(shop.client(), lambda r: put(r, a=nested)).status_code == 500


def test_a_value_that_turns_bad_in_place_is_djangos_500(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=[]))

    response = shop.run(client, lambda r: r.session["a"].append(object()))

    assert response.status_code == 500
    assert client.session["a"] == []


def test_a_failed_view_keeps_nothing(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))

    assert shop.run(client, lambda r: [put(r, a=2), 1 / 0]).status_code == 500

    assert client.session["a"] == 1


def test_a_stream_goes_on_with_the_session(shop: Site) -> None:
    client = shop.client()

    def view(request: Any) -> Any:
        request.session["before"] = 1

        def body() -> Iterator[str]:
            yield "a"
            request.session["within"] = 2

        return StreamingHttpResponse(body())

    response = shop.run(client, view)

    assert b"".join(response.streaming_content) == b"a"
    response.close()
    response.close()
    assert dict(client.session) == {"before": 1, "within": 2}


def test_a_stream_that_breaks_off_keeps_what_came_before(shop: Site) -> None:
    client = shop.client()

    def view(request: Any) -> Any:
        request.session["before"] = 1

        def body() -> Iterator[str]:
            request.session["within"] = 2
            yield "a"
            raise ZeroDivisionError

        return StreamingHttpResponse(body())

    response = shop.run(client, view)
    with pytest.raises(ZeroDivisionError):
        list(response.streaming_content)
    response.close()

    assert dict(client.session) == {"before": 1}


def test_clear_in_a_stream_clears_the_data(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda request: put(request, a=1, _=request.session.login("ada")))

    def view(request: Any) -> Any:
        def body() -> Iterator[str]:
            yield "a"
            request.session.clear()

        return StreamingHttpResponse(body())

    response = shop.run(client, view)
    assert b"".join(response.streaming_content) == b"a"
    response.close()

    session = client.session
    assert (dict(session), session.owner) == ({}, "ada")


def test_a_file_is_left_to_the_server(shop: Site) -> None:
    client = shop.client()

    def view(request: Any) -> Any:
        request.session["a"] = 1
        return FileResponse(io.BytesIO(b"file"))

    response = shop.run(client, view)

    assert b"".join(response.streaming_content) == b"file"
    assert client.session["a"] == 1


def test_an_app_that_deletes_the_cookie_signs_out(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))

    def view(request: Any) -> Any:
        request.session.get("a")
        response = HttpResponse()
        response.delete_cookie("sessionid")
        return response

    shop.run(client, view)

    assert dict(client.session) == {}


def test_a_cookie_of_our_name_on_a_used_session_is_dropped(shop: Site) -> None:
    def view(request: Any) -> Any:
        request.session.get("a")
        response = HttpResponse(headers={"Surrogate-Control": "max-age=5"})
        response.set_cookie("sessionid", "mine")
        return response

    assert "sessionid" not in shop.run(shop.client(), view).cookies


def test_a_shared_cache_is_told_to_keep_nothing(shop: Site) -> None:
    def view(request: Any) -> Any:
        request.session["a"] = 1
        return HttpResponse(headers={"Surrogate-Control": "max-age=5", "Vary": "Accept"})

    response = shop.run(shop.client(), view)

    assert "Surrogate-Control" not in response
    assert response["Vary"] == "Accept, Cookie"


def test_accessed_set_to_false_leaves_vary_out(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))

    def view(request: Any) -> str:
        request.session.get("a")
        request.session.accessed = False
        return "-"

    def again(request: Any) -> str:
        view(request)
        return str(request.session["a"])

    assert "Vary" not in shop.run(client, view)
    assert shop.run(client, again)["Vary"] == "Cookie"


def test_modified_set_to_true_counts_as_use(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    shop.clock.advance(30)

    response = shop.run(client, lambda r: setattr(r.session, "modified", True))

    assert response.cookies["sessionid"]["max-age"] == 14 * 24 * 60 * 60


def test_secure_proxy_ssl_header_is_believed() -> None:
    with site({"SECURE_PROXY_SSL_HEADER": ("HTTP_X_SCHEME", "https")}) as shop:
        response = shop.run(shop.client(), lambda r: put(r, a=1), headers={"X-Scheme": "https"})

    assert response.cookies["sessionid"]["secure"] is True


def test_a_partitioned_cookie_goes_out_whole() -> None:
    cookie = Cookie("s", secure=True, partitioned=True)
    with site(cookie=cookie) as shop:
        response = shop.run(shop.client(), lambda r: put(r, a=1), secure=True)

    assert response.cookies["s"].OutputString().endswith("; Partitioned")
    assert "Partitioned" not in _morsel("s", "s=1; Path=/").OutputString()


def test_a_path_that_the_cookie_does_not_cover_has_a_session_all_the_same() -> None:
    with site({"SESSION_COOKIE_PATH": "/shop"}) as shop:
        response = shop.run(shop.client(), lambda r: put(r, a=1))

    assert response.cookies["sessionid"]["path"] == "/shop"


def test_requests_made_by_hand_have_sessions(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    made = RequestFactory().get("/")
    made.COOKIES["sessionid"] = client.cookies["sessionid"].value
    other = RequestFactory().get("/")
    other.COOKIES["theme"] = "dark"

    DjangoMiddleware(lambda r: HttpResponse()).process_request(made)
    DjangoMiddleware(lambda r: HttpResponse()).process_request(other)

    assert dict(made.session) == {"a": 1} and dict(other.session) == {}
    assert get_session(made.META) is made.session


def test_a_response_without_a_session_of_ours_is_left_alone(shop: Site) -> None:
    response = HttpResponse()
    middleware = DjangoMiddleware(lambda r: response)

    assert middleware.process_response(HttpRequest(), response) is response
    assert middleware.process_exception(HttpRequest(), StoreError("gone")) is None


def test_inside_another_middleware_of_ours_is_an_error(shop: Site) -> None:
    request = RequestFactory().get("/")
    outer = SessionMiddleware(lambda e, s: [], secret_key="x" * 32, store=MemoryStore())
    outer.open_session(request.META)

    with pytest.raises(ConfigurationError, match="leave that one out"):
        DjangoMiddleware(lambda r: HttpResponse()).process_request(request)


# A store that fails


@pytest.mark.parametrize("name", ["view", "middleware"])
def test_w1_a_store_that_fails_while_loading_is_a_503(shop: Site, name: str) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    shop.store.fail("load")

    def handled(request: Any) -> Any:
        try:
            return everything(request)
        except StoreError:
            return HttpResponse(status=500)

    response = shop.run(client, everything if name == "view" else handled)

    assert response.status_code == 503 and response["Retry-After"] == "5"
    assert "sessionid" not in response.cookies


def test_a_store_that_fails_at_the_commit_is_a_503(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    shop.store.fail("update")

    response = shop.run(client, lambda r: put(r, a=2))

    assert response.status_code == 503 and response["Retry-After"] == "5"
    shop.store.recover()
    assert client.session["a"] == 1


def test_a_store_that_fails_in_save_is_a_503(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    shop.store.fail("update")

    response = shop.run(client, lambda r: [put(r, a=2), r.session.save()])

    assert response.status_code == 503


OURS = "wsgi_sessions.django.SessionMiddleware"
IN_SESSION = {"MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage"}
BETWEEN_US = {"MIDDLEWARE": [OURS, "django_site.between"]}


def error_page(handler500: Any) -> dict[str, Any]:
    """Settings of a site that has this page for a 500."""
    urls = ModuleType("urls")
    urls.urlpatterns = django_site.urlpatterns  # type: ignore[attr-defined] # modules take any
    urls.handler500 = handler500  # type: ignore[attr-defined] # as above
    return {"ROOT_URLCONF": urls}


@pytest.mark.parametrize("message", [None, "See you soon"])
def test_a_sign_out_that_fails_expires_the_cookie_whatever_runs_after_it(
    message: str | None,
) -> None:
    def leave(request: Any) -> None:
        if message:
            messages.info(request, message)
        request.session.flush()

    with site(IN_SESSION) as shop:
        client = shop.client()
        shop.run(client, lambda r: r.session.login("ada"))
        shop.store.fail("delete")
        response = shop.run(client, leave)

    assert response.status_code == 503 and response["Retry-After"] == "5"
    assert response.cookies["sessionid"]["max-age"] == 0


def test_a_sign_out_that_fails_in_a_middleware_is_a_503_that_expires_the_cookie() -> None:
    def leave(request: Any, get_response: Any) -> Any:
        if "leave" in request.path:
            request.session.flush()
        return get_response(request)

    BETWEEN.append(leave)
    with site(BETWEEN_US) as shop:
        client = shop.client()
        shop.run(client, lambda r: r.session.login("ada"))
        shop.store.fail("delete")
        response = shop.run(client, lambda r: "-", "leave")

    assert response.status_code == 503
    assert response.cookies["sessionid"]["max-age"] == 0


def test_a_sign_out_that_fails_expires_the_cookie_on_the_apps_own_answer_too() -> None:
    def sorry(request: Any, get_response: Any) -> Any:
        response = get_response(request)
        return response if response.status_code < 500 else HttpResponse("sorry", status=503)

    BETWEEN.append(sorry)
    with site(BETWEEN_US) as shop:
        client = shop.client()
        shop.run(client, lambda r: r.session.login("ada"))
        shop.store.fail("delete")
        response = shop.run(client, lambda r: r.session.flush())

    assert response.status_code == 503 and response.content == b"sorry"
    assert response.cookies["sessionid"]["max-age"] == 0


def test_an_outage_is_a_503_where_a_middleware_makes_responses_anew() -> None:
    def minify(request: Any, get_response: Any) -> Any:
        response = get_response(request)
        return HttpResponse(response.content.strip(), status=response.status_code)

    BETWEEN.append(minify)
    with site(BETWEEN_US) as shop:
        client = shop.client()
        shop.store.fail("insert")
        response = shop.run(client, lambda r: [put(r, a=1), r.session.save()])

    assert response.status_code == 503 and response["Retry-After"] == "5"
    assert b"unavailable" in response.content


class Body:
    """A stream that counts how often it is closed."""

    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"x"])

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("case", ["view", "error page", "commit", "large"])
def test_a_response_that_is_not_sent_is_closed_and_does_not_finish_the_request(case: str) -> None:
    finished: list[object] = []
    body = Body()

    def page(request: Any) -> Any:
        return StreamingHttpResponse(body, status=500)

    def fail(request: Any, get_response: Any) -> Any:
        if case == "error page":
            put(request, a=1)
            request.session.save()
        return get_response(request)

    def view(request: Any) -> Any:
        put(request, a="x" * 70_000 if case == "large" else 1)
        if case == "view":
            request.session.save()
        return StreamingHttpResponse(body)

    def note(**options: Any) -> None:
        finished.append(options)

    BETWEEN.append(fail)
    with site({**BETWEEN_US, **(error_page(page) if case == "error page" else {})}) as shop:
        shop.store.fail("insert")
        request_finished.connect(note)
        try:
            response = shop.run(shop.client(), view)
        finally:
            request_finished.disconnect(note)

    assert response.status_code == (500 if case == "large" else 503)
    assert len(finished) == 1 and body.closed == (0 if case == "view" else 1)


def test_a_failure_with_a_message_waiting_is_a_503_with_the_first_error() -> None:
    told: list[Any] = []

    def answer(environ: Any, start_response: Any, error: StoreError) -> list[bytes]:
        told.append(error.operation)
        start_response("503 Busy", [("Retry-After", "7")])
        return [b"busy"]

    def count(request: Any) -> str:
        messages.info(request, "counted")
        return str(request.session.increment("n"))

    with site(IN_SESSION, on_store_error=answer) as shop:
        client = shop.client()
        shop.run(client, lambda r: put(r, a=1))
        for broken in ("update", "load"):
            shop.store.fail(broken)
            response = shop.run(client, count)

            assert response.status_code == 503 and response["Retry-After"] == "7"
            assert response["Vary"] == "Cookie" and response.content == b"busy"

    assert told == ["update", "load"]


def test_an_outage_is_a_503_where_djangos_own_error_page_needs_the_session() -> None:
    csrf = [OURS, "django.middleware.csrf.CsrfViewMiddleware"]
    with site({"CSRF_USE_SESSIONS": True, "MIDDLEWARE": csrf}) as shop:
        client, other = shop.client(), AsyncClient(raise_request_exception=False)
        shop.run(client, lambda r: put(r, a=1))
        other.cookies.update(client.cookies)
        shop.store.fail("load")

        for response in (shop.run(client, everything), asyncio.run(other.get("/async"))):
            assert response.status_code == 503 and response["Retry-After"] == "5"
            assert "sessionid" not in response.cookies


@pytest.mark.parametrize("handles", [False, True])
def test_an_outage_is_a_503_where_the_sites_error_page_fails_in_turn(*, handles: bool) -> None:
    def page(request: Any) -> Any:
        try:
            return HttpResponse(request.session.get("name"), status=500)
        except StoreError:
            if handles:
                raise LookupError from None
            raise

    def read(request: Any, get_response: Any) -> Any:
        request.session.get("a")
        return get_response(request)

    BETWEEN.append(read)
    with site({**BETWEEN_US, **error_page(page)}) as shop:
        client = shop.client()
        shop.run(client, lambda r: put(r, a=1))
        shop.store.fail("load")

        response = shop.run(client, lambda r: "-")

    assert response.status_code == 503 and response["Retry-After"] == "5"


def test_a_bug_in_the_error_page_reaches_the_server_where_no_store_failed() -> None:
    def page(request: Any) -> Any:
        raise KeyError("a bug in the error page")

    with site(error_page(page)) as shop, pytest.raises(KeyError, match="a bug in the error page"):
        shop.run(shop.client(), lambda r: r.session["missing"])


def test_a_login_gives_its_place_back_where_an_exception_leaves_django() -> None:
    def page(request: Any) -> Any:
        raise KeyError("a bug in the error page")

    def fail(request: Any) -> str:
        request.session.login("ada")
        raise ZeroDivisionError

    with site(error_page(page), max_per_owner=1, when_full="refuse") as shop:
        with pytest.raises(KeyError):
            shop.run(shop.client(), fail)
        response = shop.run(shop.client(), lambda r: r.session.login("ada"))

    assert response.status_code == 200


def test_a_login_gives_its_place_back_where_the_client_goes_away() -> None:
    async def wait(request: Any) -> str:
        await sync_to_async(request.session.login)("ada")
        begun.set()
        await asyncio.Event().wait()
        return "-"

    async def go_away() -> None:
        handler = AsyncRequestFactory().get("/async")
        chain = DjangoMiddleware(django_site.serve_async)
        task = asyncio.create_task(chain(handler))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    VIEWS["async"] = wait
    begun = asyncio.Event()
    with site(max_per_owner=1, when_full="refuse") as shop:
        asyncio.run(go_away())
        response = shop.run(shop.client(), lambda r: r.session.login("ada"))

    assert response.status_code == 200


@pytest.mark.parametrize("error", [StoreError("another store"), ZeroDivisionError()])
def test_with_save_on_error_what_a_failed_request_changed_is_kept(error: Exception) -> None:
    def page(request: Any) -> Any:
        raise KeyError("a bug in the error page")

    def fail(request: Any) -> None:
        put(request, a=2)
        raise error

    with site(error_page(page), save_on_error=True) as shop:
        client = shop.client()
        shop.run(client, lambda r: put(r, a=1))
        with suppress(KeyError):
            shop.run(client, fail)
        kept = client.session["a"]

    assert kept == 2


@pytest.mark.parametrize("save_on_error", [False, True])
def test_a_session_that_was_saved_and_then_grew_too_large_has_its_cookie(
    save_on_error: bool,
) -> None:
    def view(request: Any) -> Any:
        put(request, a=1)
        request.session.save()
        put(request, b="x" * 70_000)

    page = error_page(lambda request: HttpResponse("sorry", status=500))
    with site(page, save_on_error=save_on_error) as shop:
        client = shop.client()
        response = shop.run(client, view)
        kept = dict(client.session)
        with pytest.raises(SessionTooLarge):
            shop.run(Client(), view)

    assert response.status_code == 500 and response.content == b"sorry"
    assert kept == {"a": 1} and response["Cache-Control"] == "no-store"


def test_a_stream_is_closed_where_the_commit_is_interrupted() -> None:
    class Interrupted(MemoryStore):
        def insert(self, key: str, record: Record) -> bool:
            raise KeyboardInterrupt

    body = Body()

    def view(request: Any) -> Any:
        put(request, a=1)
        return StreamingHttpResponse(body)

    with site(store=Interrupted()) as shop, pytest.raises(KeyboardInterrupt):
        shop.run(shop.client(), view)

    assert body.closed == 1


def test_an_error_before_there_is_a_session_is_djangos() -> None:
    outer = SessionMiddleware(lambda e, s: [], secret_key="x" * 32, store=MemoryStore())
    request = RequestFactory().get("/")
    outer.open_session(request.META)

    with pytest.raises(ConfigurationError, match="leave that one out"):
        DjangoMiddleware(lambda r: HttpResponse())(request)


def test_another_exception_of_a_view_is_djangos(shop: Site) -> None:
    def view(request: Any) -> Any:
        raise LookupError

    response = shop.run(shop.client(), view)

    assert response.status_code == 500 and "Retry-After" not in response


# Django's interface


def test_the_test_cookie_works(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: r.session.set_test_cookie())

    assert shop.run(client, lambda r: r.session.test_cookie_worked()).content == b"True"


def test_cycle_key_gives_a_new_key_with_the_same_handle(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))
    key, handle = client.session.session_key, client.session.handle

    shop.run(client, lambda r: r.session.cycle_key())

    after = client.session
    assert after.session_key != key and after.handle == handle
    assert dict(after) == {"a": 1}
    assert not after.exists(key) and not after.exists(None)


def test_the_key_within_a_request_is_the_one_that_the_response_sets(shop: Site) -> None:
    client = shop.client()

    def view(request: Any) -> str:
        assert request.session.session_key is None and request.session.is_empty()
        request.session.create()
        assert not request.session.is_empty() and request.session.has_key("a") is False
        request.session.cycle_key()
        return str(request.session.session_key)

    response = shop.run(client, view)

    assert response.content.decode() == response.cookies["sessionid"].value
    assert client.session.exists(client.session.session_key)


def test_create_on_a_stored_session_gives_it_a_new_key(shop: Site) -> None:
    store = SessionStore()
    store["a"] = 1
    store.save()
    before = store.session_key

    store.create()

    assert store.session_key != before and dict(SessionStore(store.session_key)) == {"a": 1}
    with pytest.raises(CreateError):
        store.save(must_create=True)


def test_a_session_that_was_ended_elsewhere_stays_ended(shop: Site) -> None:
    slow = SessionStore()
    slow["a"] = 1
    slow.save()
    fast = SessionStore()
    fast.delete(slow.session_key)
    slow["a"] = 2

    with pytest.raises(UpdateError):
        slow.save()
    assert slow.load() == {}


def test_flush_ends_the_session_and_expires_the_cookie(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=1))

    response = shop.run(client, lambda r: r.session.flush())

    assert response.cookies["sessionid"]["max-age"] == 0
    assert dict(client.session) == {}


def test_modified_may_be_set_when_nothing_can_change_any_more(shop: Site) -> None:
    kept: list[Any] = []
    shop.run(shop.client(), lambda r: kept.append(r.session))

    kept[0].modified = True

    assert kept[0].modified


def test_delete_without_a_key_ends_this_session(shop: Site) -> None:
    store = SessionStore()
    store.save()
    key = store.session_key

    store.delete()

    assert not SessionStore().exists(key)


def test_a_stored_session_is_true_though_empty(shop: Site) -> None:
    store = SessionStore()
    assert not store

    store.save()

    assert store and not len(store)


def test_encode_and_decode_are_djangos(shop: Site) -> None:
    store = SessionStore()

    assert store.decode(store.encode({"a": 1})) == {"a": 1}
    assert store._session is store and store._get_session() is store
    store._session_key = "another-key"
    assert store.session_key == "another-key" == store._session_key


DAY = 24 * 60 * 60


@pytest.mark.parametrize(
    ("expiry", "alive", "dead"),
    [
        (None, 13 * DAY, 15 * DAY),
        (0, 13 * DAY, 15 * DAY),
        (3600, 3000, 3700),
        (60 * DAY, 59 * DAY, 61 * DAY),
    ],
)
def test_set_expiry_decides_and_not_the_browser_alone(
    shop: Site, expiry: int | None, alive: int, dead: int
) -> None:
    client = shop.client()

    def view(request: Any) -> None:
        request.session["a"] = 1
        request.session.set_expiry(5)
        request.session.set_expiry(expiry)

    response = shop.run(client, view)
    started = shop.clock()

    assert bool(response.cookies["sessionid"]["max-age"]) is (expiry != 0)
    shop.clock.advance(alive)
    assert client.session["a"] == 1
    shop.clock.advance(started + dead - shop.clock())
    assert dict(client.session) == {}


@pytest.mark.parametrize("aware", [True, False])
def test_a_moment_stays_that_moment_through_a_login(aware: bool) -> None:
    with site({"USE_TZ": aware, "TIME_ZONE": "UTC"}) as shop:
        ends = datetime.fromtimestamp(shop.clock() + 3600, UTC)
        if not aware:
            ends = timezone.make_naive(ends)
        store = SessionStore()
        store.set_expiry(ends)
        shop.clock.advance(1000)
        store.login("ada")
        store.save()

        shop.clock.advance(2500)
        assert SessionStore(store.session_key).owner == "ada"
        shop.clock.advance(200)
        assert SessionStore(store.session_key).owner is None


def test_a_moment_that_has_passed_ends_the_session(shop: Site) -> None:
    store = SessionStore()
    store["a"] = 1
    store.set_expiry(datetime.fromtimestamp(shop.clock() - 10, UTC))
    store.save()

    assert dict(SessionStore(store.session_key)) == {}


def test_clear_takes_the_expiry_with_it(shop: Site) -> None:
    store = SessionStore()
    store.set_expiry(timedelta(seconds=60))
    store.clear()
    store["a"] = 1
    store.save()
    shop.clock.advance(3600)

    assert dict(SessionStore(store.session_key)) == {"a": 1}
    store.clear()
    assert store.modified


def test_a_lifetime_of_ours_is_the_limit() -> None:
    with site(lifetime=Lifetime(idle=600, absolute=1200)) as shop:
        store = SessionStore()
        store.set_expiry(10 * DAY)
        store.save()

        assert store.get_session_cookie_age() == 600
        assert SessionStore().get_expiry_age() == 600
        shop.clock.advance(700)
        assert dict(SessionStore(store.session_key)) == {}


def test_expire_at_browser_close_is_heard() -> None:
    with site({"SESSION_EXPIRE_AT_BROWSER_CLOSE": True}) as shop:
        response = shop.run(shop.client(), lambda r: put(r, a=1))
        remembered = shop.run(shop.client(), lambda r: r.session.set_expiry(60))

    assert response.cookies["sessionid"]["max-age"] == ""
    assert remembered.cookies["sessionid"]["max-age"] == 60


def test_in_the_cookie_itself_sessions_work_too() -> None:
    with site(store=ClientSideStore()) as shop:
        client = shop.client()
        shop.run(client, lambda r: put(r, a=1))

        assert client.session["a"] == 1
        assert client.session.session_key


# Async


def test_async_views_use_the_a_methods(shop: Site) -> None:
    async def write(request: Any) -> str:
        session = request.session
        await session.aset("a", 1)
        await session.aupdate({"b": 2, "c": 3})
        assert await session.apop("c") == 3
        assert await session.apop("c", default=None) is None
        with pytest.raises(KeyError):
            await session.apop("c")
        await session.acycle_key()
        return str(await session.aget("b"))

    async def stream(request: Any) -> Any:
        async def body() -> Any:
            yield "x"
            await request.session.aset("late", 1)

        return StreamingHttpResponse(body())

    async def broken(request: Any) -> Any:
        async def body() -> Any:
            await request.session.aset("broken", 1)
            yield "x"
            raise ZeroDivisionError

        return StreamingHttpResponse(body())

    async def out(request: Any) -> str:
        await request.session.aflush()
        return "out"

    async def walk() -> Any:
        client = AsyncClient()
        VIEWS["async"] = write
        assert (await client.get("/async")).content == b"2"
        VIEWS["async"] = stream
        response = await client.get("/async")
        assert [chunk async for chunk in response.streaming_content] == [b"x"]
        response.close()
        VIEWS["async"] = broken
        response = await client.get("/async")
        with pytest.raises(ZeroDivisionError):
            [chunk async for chunk in response.streaming_content]
        response.close()
        key = client.cookies["sessionid"].value
        kept = dict(SessionStore(key))
        VIEWS["async"] = out
        await client.get("/async")
        return kept, SessionStore(key).exists(key)

    assert asyncio.run(walk()) == ({"a": 1, "b": 2, "late": 1}, False)


# Auth, messages, admin, commands


def test_a_user_is_the_sessions_owner(shop: Site, ada: User) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, cart=["tea"]))

    shop.run(client, lambda r: login(r, ada))

    (info,) = sessions().registry.sessions(str(ada.pk))
    assert info.label["ip"] == "127.0.0.1"
    assert client.session["cart"] == ["tea"]
    assert shop.run(client, lambda r: r.user.username).content == b"ada"
    shop.run(client, lambda r: logout(r))
    assert sessions().registry.count(str(ada.pk)) == 0


def test_a_users_sessions_can_be_revoked(shop: Site, ada: User) -> None:
    here, there = shop.client(), shop.client()
    for client in (here, there):
        client.force_login(ada)

    shop.run(here, lambda r: sessions().registry.revoke_all(str(ada.pk), except_=r.session))

    assert shop.run(here, lambda r: r.user.username).content == b"ada"
    assert shop.run(there, lambda r: r.user.username).content == b""


def test_a_login_too_many_logs_nobody_in(ada: User) -> None:
    with site(max_per_owner=1, when_full="refuse") as shop:
        first, second = shop.client(), shop.client()
        shop.run(first, lambda r: login(r, ada))

        def view(request: Any) -> str:
            with pytest.raises(TooManySessions):
                login(request, ada)
            return f"{request.user.is_authenticated}"

        assert shop.run(second, view).content == b"False"
        assert dict(second.session) == {}
        assert shop.run(first, lambda r: r.user.username).content == b"ada"


@pytest.mark.parametrize("first", [False, True])
def test_a_receiver_that_notes_the_key_of_a_login_notes_the_one_of_the_cookie(
    shop: Site, ada: User, *, first: bool
) -> None:
    noted: list[str] = []

    def one_session_per_user(request: Any, **options: Any) -> None:
        if noted:
            SessionStore(noted.pop()).delete()
        if not request.session.session_key:
            request.session.save()
        noted.append(request.session.session_key)

    if first:
        user_logged_in.disconnect(dispatch_uid="wsgi_sessions")
    user_logged_in.connect(one_session_per_user)
    if first:
        connect()
    clients = [shop.client(), shop.client()]
    try:
        for client in clients:
            shop.run(client, lambda r: put(r, a=1))
            shop.run(client, lambda r: login(r, ada))
            assert client.cookies["sessionid"].value == noted[0]
    finally:
        user_logged_in.disconnect(one_session_per_user)

    names = [shop.run(client, lambda r: r.user.username).content for client in clients]
    assert names == [b"", b"ada"]


def test_a_store_that_is_emptied_in_set_up_has_nothing_of_the_test_before() -> None:
    class Tests(TestCase):
        def setUp(self) -> None:
            sessions().store.clear()
            self.user = User.objects.create_user("ada")

        def test_first(self) -> None:
            self.client.force_login(self.user)

        def test_second(self) -> None:
            self.client.force_login(self.user)
            self.assertEqual(sessions().registry.count(str(self.user.pk)), 1)

    result = unittest.TestResult()
    with site(max_per_owner=1, when_full="refuse"):
        unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)

    assert result.testsRun == 2 and result.wasSuccessful(), result.errors


def test_a_view_signs_in_over_https_where_the_cookie_must_be_secure(ada: User) -> None:
    with site({"SESSION_COOKIE_SECURE": True}) as shop:
        client, plain, forced = shop.client(), shop.client(), shop.client()
        shop.run(client, lambda r: login(r, ada), secure=True)
        shop.run(plain, lambda r: login(r, ada))
        forced.force_login(ada)

        assert shop.run(client, lambda r: r.user.username, secure=True).content == b"ada"
        assert shop.run(plain, lambda r: r.user.username).content == b""
        assert shop.run(forced, lambda r: r.user.username).content == b"ada"


def test_logins_of_other_sessions_are_none_of_ours(shop: Site, ada: User) -> None:
    request = HttpRequest()
    user_logged_in.send(User, request=request, user=ada)
    request.session = SessionStore()
    file_under_user(User, request=request, user=User())

    assert request.session.owner is None


def test_messages_in_the_session_are_shown_once() -> None:
    storage = "django.contrib.messages.storage.session.SessionStorage"
    with site({"MESSAGE_STORAGE": storage}) as shop:
        client = shop.client()
        shop.run(client, lambda r: messages.success(r, mark_safe("<b>hello</b>")))

        shown = [
            shop.run(client, lambda r: [str(m) for m in messages.get_messages(r)]).content
            for _ in range(2)
        ]

    assert shown == [b"['<b>hello</b>']", b"[]"]


def test_the_admin_works(shop: Site, ada: User) -> None:
    client = shop.client()

    assert client.get("/admin/").status_code == 302
    client.post("/admin/login/?next=/admin/", {"username": "ada", "password": "pw"})

    assert client.get("/admin/").status_code == 200


def test_clearsessions_purges(shop: Site) -> None:
    store = SessionStore()
    store["a"] = 1
    store.save()
    shop.clock.advance(60 * DAY)

    call_command(Command())

    assert [*sessions().store.keys()] == []


def test_clearsessions_has_nothing_to_do_where_sessions_live_in_cookies() -> None:
    with site(store=ClientSideStore()):
        call_command(Command())


def test_a_value_that_holds_itself_twice_is_refused_at_once(shop: Site) -> None:
    twice: list[Any] = []
    twice += [twice, twice]

    def view(request: Any) -> str:
        with pytest.raises(TypeError, match="nested more than"):
            request.session["a"] = twice
        return "refused"

    assert shop.run(shop.client(), view).content == b"refused"


def test_a_user_whose_key_is_too_long_for_an_owner_logs_in_all_the_same(shop: Site) -> None:
    class Long:
        pk = "x" * 257

    def view(request: Any) -> str:
        file_under_user(None, request, Long())
        return repr(request.session.owner)

    assert shop.run(shop.client(), view).content == b"None"


@pytest.mark.parametrize(
    ("expiry", "idle", "left"),
    [(300, 300, 299), (None, 14 * DAY, 14 * DAY - 1), (0, 14 * DAY, 14 * DAY - 1)],
)
def test_a_session_that_was_carried_over_has_the_limits_of_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expiry: int | None, idle: int, left: int
) -> None:
    # Django looks the setting up once a process.
    monkeypatch.setattr(FileSessionStore, "_storage_path", str(tmp_path), raising=False)
    old = FileSessionStore()
    old["cart"] = ["tea"]
    if expiry is not None:
        old.set_expiry(expiry)
    old.save()
    source = DjangoSource(f"file://{tmp_path}", SECRET, engine="file")
    clock = FakeClock(time.time())
    with site(carry_over=[source], clock=clock) as shop:
        client = shop.client()
        client.cookies["sessionid"] = str(old.session_key)
        for _ in range(2):
            shown = shop.run(client, lambda r: f"{r.session['cart']} {r.session.time_left}")
            assert shown.content.decode() == f"['tea'] {timedelta(seconds=idle)}"
        clock.advance(left)
        assert shop.run(client, everything).content != b"{}"
        clock.advance(idle + 1)
        assert shop.run(client, everything).content == b"{}"


@pytest.mark.parametrize("expires", [False, True])
def test_an_expiry_that_limits_nothing_writes_nothing(expires: bool) -> None:
    with site(lifetime=Lifetime()) as shop:
        client = shop.client()
        shop.run(client, lambda r: put(r, a=1))
        if expires:
            shop.run(client, lambda r: str(r.session.set_expiry(0)))
        before = shop.store.calls.copy()

        assert shop.run(client, lambda r: str(r.session["a"])).content == b"1"
        assert shop.store.calls - before == {"load": 1}


def test_a_store_that_is_given_another_key_works_on_that_session(shop: Site) -> None:
    stores = [SessionStore(), SessionStore()]
    for number, store in enumerate(stores):
        store["a"] = number
        store.save()
    first, second = stores

    first._session_key = second.session_key

    assert dict(first) == {"a": 1}


# What an app gains: each of these fails on Django's own engines (see the page)


def test_two_requests_that_change_different_keys_both_count(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda r: put(r, a=0, b=0))
    twin = Client()
    twin.cookies["sessionid"] = client.cookies["sessionid"].value

    def slow(request: Any) -> str:
        request.session["a"] = 1
        shop.run(twin, lambda r: put(r, b=1), "twin")
        return "-"

    shop.run(client, slow)

    assert dict(client.session) == {"a": 1, "b": 1}


def test_a_slower_write_does_not_undo_a_sign_out(shop: Site, ada: User) -> None:
    client = shop.client()
    client.force_login(ada)
    twin = Client()
    twin.cookies["sessionid"] = client.cookies["sessionid"].value

    def slow(request: Any) -> str:
        request.session["a"] = 1
        shop.run(twin, lambda r: logout(r), "twin")
        return "-"

    response = shop.run(client, slow)

    assert response.status_code == 200 and "sessionid" not in response.cookies
    assert dict(client.session) == {}


# Sessions that are bound to a device


def test_device_bindings_own_requests_never_reach_a_view(ada: User) -> None:
    with site(device_binding=DeviceBinding()) as shop:
        client = shop.client()
        VIEWS[".well-known/device-binding/register"] = lambda r: "a view"

        answer = client.post("/.well-known/device-binding/register", secure=True)
        offer = shop.run(client, lambda r: login(r, ada), secure=True)
        ended = shop.run(client, lambda r: logout(r), secure=True)

    assert 400 <= answer.status_code < 500 and b"a view" not in answer.content
    assert "Secure-Session-Registration" in offer
    assert ended.cookies["sessionid"]["max-age"] == 0


def test_clear_takes_the_session_off_its_users_list(shop: Site, ada: User) -> None:
    def leave(request: Any) -> str:
        request.session.clear()
        return "left"

    VIEWS["in"] = lambda request: str(login(request, ada))
    VIEWS["clear"] = leave
    VIEWS["who"] = lambda request: f"{request.session.owner} {request.session.is_fresh(600)}"
    client = Client()
    client.get("/in")

    assert client.get("/who").content == f"{ada.pk} True".encode()
    client.get("/clear")
    assert client.get("/who").content == b"None False"
    assert sessions().registry.count(str(ada.pk)) == 0


def test_clear_ends_also_a_session_that_is_damaged(shop: Site) -> None:
    client = shop.client()
    shop.run(client, lambda request: put(request, a=1, _=request.session.login("ada")))
    (handle,) = sessions().registry
    sessions().store.update(handle, Changes(set={"a": b"damaged"}))

    shop.run(client, lambda request: str((request.session.get("a"), request.session.clear())))

    assert sessions().registry.count("ada") == 0


def test_clear_signs_out_whom_the_app_itself_signed_in(shop: Site) -> None:
    VIEWS["in"] = lambda request: str(request.session.login("ada"))
    VIEWS["clear"] = lambda request: str(request.session.clear())
    VIEWS["who"] = lambda request: str(request.session.owner)
    client = Client()
    client.get("/in")
    assert client.get("/who").content == b"ada"

    client.get("/clear")

    assert client.get("/who").content == b"None"
    assert sessions().registry.count("ada") == 0


def test_the_test_client_is_no_server_of_several_processes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    VIEWS["put"] = lambda request: put(request, a=1)
    with override_settings(WSGI_SESSIONS={"store": "memory://"}):
        Client().get("/put")

    assert "keeps sessions in memory" not in caplog.text


def test_another_user_than_the_one_who_was_cleared_is_nobodys(shop: Site, ada: User) -> None:
    def change(request: Any) -> str:
        request.session.clear()
        request.session["_auth_user_id"] = "0"
        return ""

    VIEWS["in"] = lambda request: str(login(request, ada))
    VIEWS["change"] = change
    VIEWS["who"] = lambda request: str(request.session.owner)
    client = Client()
    client.get("/in")
    client.get("/change")

    assert client.get("/who").content == b"None"


def test_an_app_that_clears_all_but_its_user_keeps_the_owner(shop: Site, ada: User) -> None:
    def tidy(request: Any) -> str:
        session = request.session
        kept = {name: value for name, value in session.items() if name.startswith("_auth")}
        session.clear()
        session.update(kept)
        return ""

    VIEWS["in"] = lambda request: str(login(request, ada))
    VIEWS["tidy"] = tidy
    VIEWS["who"] = lambda request: f"{request.user} {request.session.owner}"
    client = Client()
    client.get("/in")
    client.get("/tidy")

    assert client.get("/who").content == f"ada {ada.pk}".encode()
    assert sessions().registry.revoke_all(str(ada.pk)) == 1
    assert client.get("/who").content == b"AnonymousUser None"
