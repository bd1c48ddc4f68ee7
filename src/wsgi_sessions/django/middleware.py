"""The middleware that replaces Django's, for sync and async views alike.

It takes the steps of an Integration: open when the request comes, commit when the response is made,
finish when its stream ends. A store's failure is noted where Django sees it, and answered with 503
even if Django turned it into something else; at the end, when all middleware inside this one is
done with the session.
"""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from http.cookies import Morsel
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.core.handlers.exception import response_for_exception
from django.core.signals import got_request_exception
from django.http import FileResponse, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from ..errors import ConfigurationError, StoreError
from ..http.transport import Header
from ..integration import Answer, Integration, SessionStream
from ..session import state_of
from .engine import sessions
from .session import DjangoSession


class SessionMiddleware(DjangosMiddleware):
    """Gives each request its session: in ``MIDDLEWARE``, in place of Django's own.

    A subclass of Django's, so that the admin's checks find it.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(self, get_response: Any) -> None:
        MiddlewareMixin.__init__(self, get_response)
        sessions()

    def __call__(self, request: Any) -> Any:
        """Called by Django with each request."""
        try:
            return super().__call__(request)
        except BaseException as error:
            answer = _end(request, error)
            if answer is None:
                raise
            return answer

    async def __acall__(self, request: Any) -> Any:
        try:
            return await super().__acall__(request)
        except (Exception, asyncio.CancelledError) as error:
            answer = await sync_to_async(_end)(request, error)
            if answer is None:
                raise
            return answer

    def process_request(self, request: Any) -> HttpResponse | None:  # pyright: ignore[reportIncompatibleMethodOverride] # it may answer by itself
        """Called by Django before the view."""
        steps, environ = sessions(), request.META
        _complete(request)
        device = steps.answer_device(environ)
        if device is not None:
            return _response(device)
        session = steps.open_session(environ)
        if not isinstance(session, DjangoSession):
            raise ConfigurationError(
                "the Django app is inside another SessionMiddleware of the same environ_key; leave"
                " that one out, or give WSGI_SESSIONS an environ_key and a cookie name of its own"
            )
        request.session = session
        request.wsgi_sessions, request.wsgi_sessions_failure = steps, None
        return None

    def process_exception(self, request: Any, exception: Exception) -> HttpResponse | None:
        """Called by Django when a view raises."""
        # All middleware inside this one may use the session, which the answer ends.
        return HttpResponse(status=500) if _note(request, exception) else None

    def process_response(self, request: Any, response: HttpResponse) -> HttpResponse:
        """Called by Django with the response, whoever made it."""
        if not _is_ours(request):
            return response
        steps: Integration = request.wsgi_sessions
        environ, session = request.META, request.session
        failure: StoreError | None = request.wsgi_sessions_failure
        if failure is not None and response.status_code == 500:
            _let_go(response)
            return _failure(steps, request, failure)
        streaming = response.streaming and not isinstance(response, FileResponse)
        given = _headers(response)
        try:
            finished = steps.commit_session(
                environ,
                status=f"{response.status_code} {response.reason_phrase}",
                headers=given,
                streaming=streaming,
            )
        except BaseException as error:
            _let_go(response)
            if isinstance(error, StoreError):
                return _failure(steps, request, error)
            if isinstance(error, Exception):
                return _error_page(steps, request, error)
            raise
        if finished != given:
            _put(response, finished, vary=session.accessed)
        if streaming:
            _watch(response, steps, environ)
        return response


def _is_ours(request: Any) -> bool:
    """Whether the request's session is one that we opened, and not committed yet."""
    steps: Integration | None = getattr(request, "wsgi_sessions", None)
    return steps is not None and steps.is_open(request.META)


def _note(request: Any, error: BaseException | None) -> bool:
    """Note that the store failed this request; False if it is another error, or not our request."""
    if not isinstance(error, StoreError) or not _is_ours(request):
        return False
    if request.wsgi_sessions_failure is None:
        request.wsgi_sessions_failure = error
    return True


def note_failure(request: Any, **options: Any) -> None:
    """Receives ``got_request_exception``: Django makes a 500 of what isn't raised by a view."""
    del options
    _note(request, sys.exc_info()[1])


got_request_exception.connect(note_failure, dispatch_uid="wsgi_sessions")


def _end(request: Any, error: BaseException) -> HttpResponse | None:
    """End the session of a request of which an exception has left Django, such as an error page's.

    Returns:
        The answer, if it is the store that failed.
    """
    if not _is_ours(request):
        return None
    steps: Integration = request.wsgi_sessions
    state = state_of(request.session)
    _note(request, error)
    failure = request.wsgi_sessions_failure or (None if state is None else state.error)
    if failure is not None and isinstance(error, Exception):
        return _failure(steps, request, failure)
    steps.finish_session(request.META, failed=True)
    return None


def _complete(request: Any) -> None:
    """Put into the environ what Django knows about the request and a session needs."""
    environ = request.META
    if hasattr(request, "_dont_enforce_csrf_checks"):
        # Django's test client, which says that there are several processes; there is this one.
        environ["wsgi.multiprocess"] = False
    if environ.get("wsgi.url_scheme") != request.scheme:
        # SECURE_PROXY_SSL_HEADER; under ASGI there is no environ at all.
        environ["wsgi.url_scheme"] = request.scheme
    cookies = vars(request).get("COOKIES")
    if cookies:
        # A request made by hand may have its cookies there alone.
        name = sessions().cookie_name(environ)
        token = cookies.get(name)
        if token and token not in environ.get("HTTP_COOKIE", ""):
            environ["HTTP_COOKIE"] = f"{name}={token}"


def _failure(steps: Integration, request: Any, error: StoreError) -> HttpResponse:
    return _response(steps.answer_failure(request.META, error))


def _error_page(steps: Integration, request: Any, error: Exception) -> HttpResponse:
    """Django's own answer where the session can't be kept, with the cookie that a save() owes."""
    page = cast("HttpResponse", response_for_exception(request, error))
    finished = steps.fail_session(request.META, headers=_headers(page))
    _put(page, finished, vary=request.session.accessed)
    return page


def _response(answer: Answer) -> HttpResponse:
    code, _, reason = answer.status.partition(" ")
    response = HttpResponse(answer.body, status=int(code), reason=reason)
    _put(response, answer.headers, vary=True)
    return response


def _let_go(response: Any) -> None:
    """Close what a response that isn't sent holds.

    Its own ``close()`` would tell all of Django that the request is finished.
    """
    for close in response._resource_closers:  # noqa: SLF001 # there is no other way
        with suppress(Exception):  # as Django does it
            close()


def _headers(response: HttpResponse) -> list[Header]:
    """All headers of the response, cookies included."""
    cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return [*response.items(), *cookies]


def _put(response: HttpResponse, headers: list[Header], *, vary: bool) -> None:
    """Replace the headers of a response by the committed ones.

    Where ``vary`` is False and no cookie is set, the response's own Vary stays as it is.
    """
    given = {morsel.OutputString(): name for name, morsel in response.cookies.items()}
    cookies = [value for header, value in headers if header.lower() == "set-cookie"]
    for text, name in given.items():
        if text not in cookies:
            del response.cookies[name]
    for value in cookies:
        if value not in given:
            name = value.partition("=")[0]
            response.cookies[name] = _morsel(name, value)
            vary = True
    plain = {header: value for header, value in headers if header.lower() != "set-cookie"}
    kept = {header.lower() for header in plain}
    for header in [header for header, _ in response.items() if header.lower() not in kept]:
        del response.headers[header]
    for header, value in plain.items():
        if vary or header.lower() != "vary":
            response.headers[header] = value


class _PartitionedMorsel(Morsel[str]):
    """A cookie with an attribute that Python knows from 3.14 on."""

    def OutputString(self, attrs: Any = None) -> str:  # noqa: N802 # as the standard library's
        return f"{super().OutputString(attrs)}; Partitioned"


def _morsel(name: str, header: str) -> Morsel[str]:
    """A Set-Cookie header as Django keeps it, so that test clients and other middleware see it."""
    pair, *attributes = header.split("; ")
    parts: dict[str, str] = {}
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        parts[key] = text
    morsel: Morsel[str] = _PartitionedMorsel() if "Partitioned" in parts else Morsel()
    value = pair.partition("=")[2]
    morsel.set(name, value, value)
    for attribute, text in parts.items():
        if attribute == "Max-Age":
            morsel["max-age"] = int(text)
        elif attribute != "Partitioned":
            morsel[attribute] = text or True
    return morsel


class _AsyncStream:
    """SessionStream for a stream that is iterated asynchronously."""

    def __init__(self, body: AsyncIterator[Any], stream: SessionStream) -> None:
        self._body = body
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            raise
        except BaseException:
            self._stream.break_off()
            raise

    def close(self) -> None:
        self._stream.close()


def _watch(response: Any, steps: Integration, environ: dict[str, Any]) -> None:
    """Finish the session when the response's stream is closed."""

    def finish(failed: bool) -> None:
        steps.finish_session(environ, failed=failed)

    content = response.streaming_content
    if response.is_async:
        response.streaming_content = _AsyncStream(aiter(content), SessionStream((), finish))
    else:
        response.streaming_content = SessionStream(content, finish)
