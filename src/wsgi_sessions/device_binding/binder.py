"""Binder: the options for one cookie and one set of secrets, with all that can be built beforehand.

This is what a request needs of this package: offering, and looking for the second cookie. `routes`
answers the browser's own two requests.
"""

from __future__ import annotations

from ..cookie import (
    Cookie,
    CookieWriter,
    find_candidates,
    path_matches,
    plain_value,
    wsgi_path,
)
from . import protocol
from .keys import require_cryptography
from .seals import Seal
from .settings import DeviceBinding, check_cookie

Header = tuple[str, str]

REGISTER_WITHIN = 5 * 60
"""Seconds in which an offer can be taken up."""
REFRESH_EXTRA = 10 * 60
"""Seconds for which a challenge to refresh is good beyond the second cookie's life: the browser
gets it with that cookie, and uses it when that has ended."""
COOKIE_EXTRA = 30
"""Seconds for which the second cookie is good beyond its Max-Age: requests may be under way."""
SKEW = 60
"""Seconds by which the clocks of an app's servers may differ."""


class Binder:
    """Binds the sessions of one cookie.

    Args:
        settings: the options.
        cookie: the session cookie, the first.
        secrets: newest first.

    Raises:
        ConfigurationError: if such a cookie can't be bound, or the extra ``[crypto]`` is missing.
    """

    __slots__ = (
        "_cookie_path",
        "_register",
        "_second",
        "_writer",
        "grace",
        "max_age",
        "refresh_challenges",
        "register_challenges",
        "second_cookie",
        "settings",
    )

    def __init__(self, settings: DeviceBinding, cookie: Cookie, secrets: tuple[bytes, ...]) -> None:
        check_cookie(cookie)
        require_cryptography()
        self.settings: DeviceBinding = settings
        self.grace: float = settings.grace_seconds
        self.max_age: int = settings.max_age_seconds
        self.second_cookie: Cookie = protocol.second_cookie(cookie)
        self._writer = CookieWriter(self.second_cookie)
        self._cookie_path = wsgi_path(cookie.path)
        # The first cookie's name is bound in, as it is in tokens: two middlewares in one app, with
        # the same secrets, don't take each other's seals for their own.
        purpose = f"device-binding.{cookie.name}"
        self._second = Seal(secrets, f"{purpose}.cookie")
        self.register_challenges: Challenges = Challenges(
            Seal(secrets, f"{purpose}.register"), REGISTER_WITHIN
        )
        self.refresh_challenges: Challenges = Challenges(
            Seal(secrets, f"{purpose}.refresh"), self.max_age + REFRESH_EXTRA
        )

    def offer(self, handle: str, *, now: float, script_name: str) -> Header | None:
        """The header that offers to bind this session; None where the cookie wouldn't reach it.

        `binding.offer_is_due` says whether one is due.
        """
        path = self.settings.path + protocol.REGISTER
        if not path_matches(self._cookie_path, script_name + path):
            return None
        challenge = self.register_challenges.issue(handle, now)
        return protocol.offer(protocol.url_path(script_name) + path, challenge)

    def proves(self, cookie_header: object, handle: str, *, now: float) -> bool:
        """Whether a request's Cookie header has a good second cookie of this session.

        Of several one is enough: the others may be leftovers, or planted by another host.

        Args:
            cookie_header: HTTP_COOKIE of the environ, if it is there.
            handle: the session's.
            now: UNIX seconds.
        """
        if not isinstance(cookie_header, str):
            return False
        # Each request of a bound session comes here, so what nearly all browsers send goes first.
        name = self.second_cookie.name
        value = plain_value(cookie_header, name)
        if value is not None and self._is_good(value, handle, now):
            return True
        values = find_candidates(cookie_header, name).values
        return any(self._is_good(value, handle, now) for value in values)

    def is_sent(self, cookie_header: object) -> bool:
        """Whether a request's Cookie header has any second cookie at all.

        Where one is sent and none proves the session, take it back (`expire_cookie`): while the
        browser has a cookie of that name it sees no need to refresh. It may be of a session that
        the browser had before, and whose binding it hasn't forgotten.
        """
        return isinstance(cookie_header, str) and bool(
            find_candidates(cookie_header, self.second_cookie.name).values
        )

    def _is_good(self, value: str, handle: str, now: float) -> bool:
        ends_at = self._second.time_of(value, handle)
        # One that ends later than it could was issued by a clock that was wrong, or before max_age
        # was shortened.
        return ends_at is not None and now < ends_at <= now + self.max_age + COOKIE_EXTRA + SKEW

    def set_cookie(self, handle: str, *, now: float) -> Header:
        """The header that sets this session's second cookie."""
        value = self._second.seal(handle, int(now) + self.max_age + COOKIE_EXTRA)
        return "Set-Cookie", self._writer.set(value, secure=True, max_age=self.max_age, now=now)

    def expire_cookie(self) -> Header:
        """The header that takes the second cookie back."""
        return "Set-Cookie", self._writer.expire(secure=True)


class Challenges:
    """What browsers have to sign for one purpose: handle and time, sealed, and nothing stored.

    One that was used is good until its time is over. Someone who captured the proof can show it
    again until then, and gains a second cookie of a session whose first one they need as well.
    """

    __slots__ = ("_lifetime", "_seal")

    def __init__(self, seal: Seal, lifetime: int) -> None:
        self._seal = seal
        self._lifetime = lifetime

    def issue(self, handle: str, now: float) -> str:
        """A challenge for this session."""
        return self._seal.seal(handle, int(now))

    def handle_of(self, challenge: str, now: float) -> str | None:
        """Whose challenge this is; None if it is not one of ours, or too old."""
        found = self._seal.open(challenge)
        if found is None or not -SKEW <= now - found.time <= self._lifetime:
            return None
        return found.handle
