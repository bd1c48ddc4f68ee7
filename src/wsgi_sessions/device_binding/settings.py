"""DeviceBinding: the options, checked, and what they can't be combined with. No requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast

from .._options import checked_options, seconds
from ..cookie import Cookie
from ..errors import ConfigurationError

MIN_MAX_AGE = 120
"""Seconds. Chromium refreshes ahead of time once less than two minutes are left, so that a shorter
cookie is refreshed on nearly every request, and the browser's quota is gone in seconds."""
MAX_MAX_AGE = MAX_GRACE = 24 * 60 * 60
MAX_PATH = 256
MAX_RULES = 100
# Needs no escaping in a URL, so that it looks the same in PATH_INFO, in a header and in JSON.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_EXCLUDED = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_INITIATOR = re.compile(
    r"\*|(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)

Duration = timedelta | int | float
WhenMissing = Literal["refuse", "flag"]


@checked_options
@dataclass(frozen=True, slots=True)
class DeviceBinding:
    """Binds sessions to the device that they were begun on, in browsers that support it.

    The browser keeps a private key that nobody can copy, and proves again and again that it has
    it, to get a second, short-lived cookie. Browsers without support go on as before.

    Args:
        max_age: how long the second cookie lives, and so how long a copy of it is of use; seconds
            or timedelta, from 2 minutes to a day.
        path: under this path the middleware itself answers the browser's registration and refresh.
            It is compared with PATH_INFO.
        grace: how long after it was bound a session is served without proof; seconds or timedelta.
            The browser's next requests may be under way before it has the second cookie.
        exclude: paths that the browser needn't hold back while it fetches a new second cookie,
            such as ``["/static/"]``; each stands for everything under it. This saves the
            waiting, but doesn't replace the proof.
        initiators: hosts whose links and forms may make the browser refresh; ``"*"`` is any host,
            ``"*.example.com"`` those under it. Without them, a user who follows a link from another
            site arrives unproven.
        when_missing: ``"refuse"``: no session in this request for a bound one without proof;
            ``"flag"``: it is, and ``session.is_proven`` and ``is_fresh`` are False.

    Raises:
        ConfigurationError: for anything that browsers would refuse or that would lock users out.
    """

    max_age: Duration = 600
    path: str = "/.well-known/device-binding"
    grace: Duration = 60
    exclude: Sequence[str] = ()
    initiators: Sequence[str] = ("*",)
    when_missing: WhenMissing = "refuse"

    def __post_init__(self) -> None:
        if not MIN_MAX_AGE <= seconds("DeviceBinding", "max_age", self.max_age) <= MAX_MAX_AGE:
            raise ConfigurationError(
                f"DeviceBinding: max_age is {self.max_age!r}; write {MIN_MAX_AGE} seconds (browsers"
                " allow few refreshes) to a day; 600 is a good choice"
            )
        if seconds("DeviceBinding", "grace", self.grace, zero=True) > MAX_GRACE:
            raise ConfigurationError(
                f"DeviceBinding: grace is {self.grace!r}; write at most a day, as a stolen cookie"
                " is good for so long after sign-in; 60 seconds is a good choice"
            )
        if (
            not isinstance(self.path, str)  # pyright: ignore[reportUnnecessaryIsInstance] # what was given may be anything
            or not _PATH.fullmatch(self.path)
            or len(self.path) > MAX_PATH
        ):
            raise ConfigurationError(
                f"DeviceBinding: path is {self.path!r}; write a path such as"
                " '/.well-known/device-binding', of letters, digits and ._~- between slashes,"
                f" without one at its end, at most {MAX_PATH} characters"
            )
        excluded = _texts("exclude", self.exclude, _EXCLUDED, "paths such as '/static/'")
        initiators = _texts(
            "initiators",
            self.initiators,
            _INITIATOR,
            "'*', or host names in lower case such as 'idp.example.com' or '*.example.com'",
        )
        object.__setattr__(self, "exclude", excluded)
        object.__setattr__(self, "initiators", initiators)
        if self.when_missing not in ("refuse", "flag"):
            raise ConfigurationError(
                f"DeviceBinding: when_missing is {self.when_missing!r}; write 'refuse' or 'flag'"
            )

    @property
    def max_age_seconds(self) -> int:
        """``max_age`` in whole seconds, as Max-Age has it."""
        return int(seconds("DeviceBinding", "max_age", self.max_age))

    @property
    def grace_seconds(self) -> float:
        """``grace`` in seconds."""
        return seconds("DeviceBinding", "grace", self.grace, zero=True)


def _texts(name: str, given: object, form: re.Pattern[str], allowed: str) -> tuple[str, ...]:
    """A list or tuple of texts of one form, frozen."""
    texts = tuple(cast("Sequence[object]", given)) if isinstance(given, (list, tuple)) else None
    if texts is None or len(texts) > MAX_RULES:
        raise ConfigurationError(
            f"DeviceBinding: {name} is {given!r}; write a list of at most {MAX_RULES} {allowed}"
        )
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_PATH or not form.fullmatch(text):
            raise ConfigurationError(f"DeviceBinding: {name} has {text!r}; write {allowed}")
    return cast("tuple[str, ...]", texts)


def check_with(
    *, client_side: bool, token_header: str | None, cookie: Cookie | None = None
) -> None:
    """Whether a middleware with these options can bind sessions.

    Args:
        client_side: whether the store is a ClientSideStore.
        token_header: the middleware's option.
        cookie: the middleware's; None where it is chosen by request (then call `check_cookie` on
            each that is chosen).

    Raises:
        ConfigurationError: if it can't.
    """
    if client_side:
        raise ConfigurationError(
            "SessionMiddleware: device_binding needs a store on the server, which keeps the"
            " device's key; give another store than ClientSideStore, or leave device_binding out"
        )
    if token_header is not None:
        raise ConfigurationError(
            "SessionMiddleware: device_binding binds cookies, and token_header is"
            f" {token_header!r}; leave one of them out"
        )
    if cookie is not None:
        check_cookie(cookie)


def check_cookie(cookie: Cookie) -> None:
    """Whether sessions with this cookie can be bound.

    Raises:
        ConfigurationError: if browsers would refuse that, or never refresh.
    """
    for wrong, given, why in (
        (cookie.partitioned, "partitioned=True", "browsers don't bind partitioned cookies"),
        (
            cookie.domain is not None,
            f"domain={cookie.domain!r}",
            "the domain's other hosts would never refresh the second cookie",
        ),
        (cookie.secure is False, "secure=False", "browsers bind sessions on https only"),
    ):
        if wrong:
            raise ConfigurationError(
                f"SessionMiddleware: device_binding can't be combined with Cookie({given}):"
                f" {why}; leave one of them out"
            )
