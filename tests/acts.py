"""What apps and browsers do in tests, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsgi import Browser, Site
from wsgi_sessions import Session


def put(**values: Any) -> Callable[[Session], Any]:
    return lambda session: session.update(values)


def read(session: Session) -> str:
    return repr(dict(sorted(session.items())))


def login(session: Session) -> None:
    session.login("bob")


def login_as(owner: str) -> Callable[[Session], Any]:
    def work(session: Session) -> None:
        session.login(owner)

    return work


def destroy(session: Session) -> None:
    session.destroy()


def nothing(session: Session) -> None:
    """The app doesn't touch its session."""


def twin(browser: Browser) -> Browser:
    """Another tab, or a thief: the same cookies now, its own from here on."""
    other = Browser(browser.app, **browser.extra)
    other.cookies = dict(browser.cookies)
    return other


def token(browser: Browser) -> str:
    return next(iter(browser.cookies.values()))


def id_of(browser: Browser) -> str:
    return token(browser).partition(".")[0]


def sending(site: Site, cookie: str, **extra: Any) -> Browser:
    """A browser whose Cookie header is this text."""
    return Browser(site.middleware, HTTP_COOKIE=cookie, **extra)


def started(**options: Any) -> tuple[Site, Browser]:
    """A site, and a browser with a session that holds a=1."""
    site = Site(**options)
    browser = site.browser()
    site.run(browser, put(a=1))
    return site, browser
