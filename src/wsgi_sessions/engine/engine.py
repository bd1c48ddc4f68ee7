"""The engine: what a Session asks for, step by step, and the parts that carry it out.

With the modules beside it, this is the only place that knows store, clock and randomness. It knows
nothing of WSGI beyond the environ that a token is read from.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from .._values import replaced
from ..cookie import domain_matches
from ..crypto.session_id import SessionID
from ..data.fields import NO_FIELD_CHANGES
from ..data.standing import UNBOUND
from ..errors import StoreError, UnsupportedByStore
from ..http.transport import CookieTransport, Environ, Header, Transport
from ..lifetime import Lifetime
from ..proxies import CLIENT_KEY, ORIGINAL_KEY, Client
from ..proxies.parsing import parse_scheme
from .committing import Committer, Response
from .decisions import CookieStep
from .loading import FORGED, NOTHING, Loader, Presented
from .owners import OwnerLists, Place
from .reports import Reports
from .settings import EngineSettings
from .state import NO_SCHEME, Keep, Request, SessionState, add_to_label, kept_fields
from .transaction import Transactions
from .writing import StoreWriter, Writer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..device_binding import Answer
    from .binding import Devices
    from .carrying import Carrier

T = TypeVar("T")
_DEFAULT = Lifetime()
IsPassive = Callable[["WSGIEnvironment"], bool]


class Engine:
    """Opens sessions, does what the app asks for, and commits them.

    Args:
        settings: the validated options.
    """

    def __init__(self, settings: EngineSettings, is_passive: IsPassive | None = None) -> None:
        self._settings = settings
        self._is_passive = None if is_passive is None else _apart_from_the_session(is_passive)
        self._reports = Reports(settings.events)
        self._loader = Loader(settings, self._reports)
        # Where sessions live with the clients, nothing is ever entered there.
        self._owners = OwnerLists(settings.store, settings.limits, settings.clock)
        self._carrier: Carrier | None = None
        self._transactions: Transactions | None = None
        writer: Writer
        if settings.seal is None:
            writer = StoreWriter(settings, self._loader, self._owners, self._reports)
            self._carrier = _carrier(settings, self._loader, self._owners, self._reports)
        else:
            from .sealed import SealedWriter  # noqa: PLC0415 # few apps keep sessions in cookies

            writer = SealedWriter(settings, settings.seal, self._reports)
        self._committer = Committer(settings, self._loader, writer, self._owners, self._reports)
        if isinstance(writer, StoreWriter):
            self._transactions = Transactions(settings, self._loader, self._committer, writer)
        self._devices = _devices(settings, self._reports)

    @property
    def in_token(self) -> bool:
        """Whether the data travels in the token itself."""
        return self._settings.seal is not None

    def now(self) -> float:
        """UNIX seconds."""
        return self._settings.clock()

    # Opening

    def open(self, environ: Environ, transport: Transport) -> SessionState:
        """Open the session of this request. A store that fails is noted in the state."""
        # Not the environ itself, which holds the Session: that would be a circle, and keep all of a
        # request's garbage until the collector runs.
        found = environ.get(CLIENT_KEY)
        client = found if isinstance(found, Client) else None
        scheme = str(environ.get("wsgi.url_scheme", "http"))
        sent = transport.candidates(environ)
        devices = self._devices
        evidence = None if devices is None else devices.evidence(environ, transport)
        request = Request(
            transport,
            sent.values,
            # As in `Client.scheme`.
            scheme == NO_SCHEME or parse_scheme(scheme) == "https",
            scheme,
            None if client is None else client.ip,
            environ.get("HTTP_USER_AGENT"),
            environ.get("HTTP_X_FORWARDED_PROTO"),
            None if client is None or ORIGINAL_KEY not in environ else client.problems,
            self._is_passive is not None and bool(self._is_passive(environ)),
            set(),
            evidence,
            "" if self._carrier is None else self._old_cookies(environ, transport),
        )
        settings = self._settings
        now = settings.clock()
        state = SessionState(request)
        try:
            presented = self._find(request, now)
        except StoreError as error:
            state.begin(now, settings.codec)
            state.error = error
            detail = f"{error.operation or 'load'}: {error}"
            self._reports.emit("store_error", request, detail=detail)
            return state
        self._go_on_with(state, presented, now)
        if state.stored is None:
            if sent.beyond is not None:
                self._reports.cookie_not_found(request, sent.beyond)
        elif sent.after_comma:
            self._reports.after_comma()
        return state

    def _old_cookies(self, environ: Environ, transport: Transport) -> str:
        # A client that sends the token in a header doesn't mean its cookies.
        if not isinstance(transport, CookieTransport):
            return ""
        header = environ.get("HTTP_COOKIE")
        return header if isinstance(header, str) else ""

    def _find(self, request: Request, now: float) -> Presented:
        presented = own = self._loader.find(request, now) if request.tokens else NOTHING
        if self._carrier is not None and presented.stored is None and not presented.passed_over:
            presented = self._carrier.find(request, now)
        if own is FORGED and presented.carried_from is None:
            # Else what came under our name was the other system's cookie.
            carrier = self._carrier
            shared = carrier is not None and carrier.reads(request.transport.name, now)
            seal = self._settings.seal
            self._reports.bad_signature(
                request,
                "" if seal is None else seal.mark,
                shared=shared,
                misplaced=self._misplaced(request),
            )
        if self._devices is None:
            return presented
        return self._devices.judged(request, presented, now)

    def _misplaced(self, request: Request) -> bool:
        """Whether one of these tokens is good where the other kind of client sends its own."""
        other = request.transport.other
        is_genuine = self._loader.is_genuine
        return other is not None and any(is_genuine(token, other) for token in request.tokens)

    def _go_on_with(self, state: SessionState, presented: Presented, now: float) -> None:
        """Start, or start again, with what the client's tokens lead to."""
        stored, codec = presented.stored, self._settings.codec
        if stored is None:
            state.begin(now, codec)
        else:
            stale = presented.stale_token or stored.notes.cookie_behind
            state.adopt(stored, codec, stale_token=stale)
            state.gone = False
        state.passed_over, state.standing = presented.passed_over, presented.standing
        if presented.carried_from is not None:
            state.carried_from = presented.carried_from
            # Whatever else this response does, the client has no token for its session yet.
            state.cookie = CookieStep.SET

    def is_presented(self, environ: Environ, transport: Transport) -> bool:
        """Whether a token of ours came with this request, whatever it leads to."""
        tokens = transport.candidates(environ).values
        return any(self._loader.is_genuine(token, transport) for token in tokens)

    def reload(self, state: SessionState) -> None:
        """Drop what wasn't committed, and read again.

        Raises:
            StoreError: the store can't answer; nothing was dropped.
        """
        now, stored = self._settings.clock(), state.stored
        if stored is None and self.in_token and state.cookie is CookieStep.EXPIRE:
            # What this request has ended is still in the token that it came with.
            presented = NOTHING
        elif stored is None:
            presented = self._find(state.request, now)
        elif self.in_token:
            presented = Presented(stored, state.stale_token, state.passed_over)
        else:
            again = self._loader.reload(stored, now, own=state.intent.own_ids)
            moved = again is not None and again.id.id != stored.id.id
            standing = UNBOUND if again is None else state.standing
            stale = state.stale_token or moved
            presented = Presented(again, stale, state.passed_over, standing)
            if again is not None and again.record.epoch != stored.record.epoch:
                # The new ID that this request asked for: only the answer to that was lost.
                state.cookie, state.own_id = CookieStep.SET, True
        if stored is None:
            self._committer.try_to_end_tried(state)
        self._committer.give_back_place(state)
        self._go_on_with(state, presented, now)

    def open_again(self, former: SessionState) -> SessionState:
        """Open, for another request on the same connection, the session that an earlier one has
        loaded: as `reload` does, by key and epoch, whatever ID it has by now. A store that fails is
        noted in the state.
        """
        settings = self._settings
        now = settings.clock()
        state = SessionState(replaced(former.request, logged=set()))
        state.begin(now, settings.codec)
        try:
            again = None if former.stored is None else self._loader.reload(former.stored, now)
        except StoreError as error:
            state.error = error
            self._reports.emit("store_error", state.request, former.stored, detail=f"load: {error}")
            return state
        if again is not None:
            state.adopt(again, settings.codec, stale_token=False)
            state.standing = former.standing
        return state

    # What a session is

    def identify(self, state: SessionState) -> SessionID:
        """The session's ID; a new session gets one now."""
        known = state.known_id
        if known is None:
            known = self._settings.ids.new()
            state.ask(id=known)
        return known

    def token(self, state: SessionState) -> str | None:
        """The client's token of this session; None: it isn't stored.

        After a `regenerate` that isn't committed yet, that is the token which the commit sets.
        """
        stored = state.stored
        if stored is None:
            return None
        return self._committer.token_of(replaced(stored, id=state.known_id or stored.id), state)

    def limits(self, state: SessionState) -> tuple[float, float]:
        """The idle and the absolute limit in force, in seconds."""
        limits, notes = self._settings.limits, state.notes
        return min(notes.idle, limits.idle), min(notes.absolute, limits.absolute)

    def expected_end(self, state: SessionState, *, headers_sent: bool) -> float:
        """When the session ends unless it is used again after this request. UNIX seconds."""
        stored, now = state.stored, self._settings.clock()
        if stored is None:
            return self._settings.next_deadline(state.notes, now)
        if state.gone and not state.intent.login:
            return min(stored.deadline, now)
        if now < stored.deadline and self._committer.will_renew(
            state, now, headers_sent=headers_sent
        ):
            return self._settings.next_deadline(state.notes, now)
        return min(stored.deadline, self._settings.deadline_of(stored.record, state.notes, now))

    def fields_changed(self, state: SessionState) -> bool:
        """Whether any field differs from what is stored; see `Committer.pending`."""
        return self._committer.pending(state) is not NO_FIELD_CHANGES

    def is_alive(self, state: SessionState) -> bool:
        """Whether the store still has the session, under the epoch that this request knows.

        Raises:
            StoreError: the store can't answer.
        """
        stored, now = state.stored, self._settings.clock()
        if stored is None:
            return False
        if self.in_token:
            return now < stored.deadline
        alive = self._loader.reload(stored, now, own=state.intent.own_ids) is not None
        state.gone = state.gone or not alive
        return alive

    # What the app asks for

    def regenerate(self, state: SessionState, keep: Keep) -> None:
        """Give the session a new ID, and let go of what isn't kept."""
        self._ask_new_id(state, keep)
        if keep is False and state.owner is not None:
            self._committer.give_back_place(state)
            state.ask(owner=None)
            state.ask_notes(authenticated_at=None)

    def _ask_new_id(self, state: SessionState, keep: Keep, **changes: Any) -> None:
        known = state.known_id
        ids = self._settings.ids
        changes["id"] = ids.new() if known is None else ids.renew(known)
        before, kept = kept_fields(state.intent.keep), kept_fields(keep)
        if kept is not None:
            state.fields.retain(kept)
            both = kept if before is None else before & kept
            changes["keep"] = False if keep is False or state.intent.keep is False else both
        if keep is False:
            state.label.clear()
        state.ask(**changes)

    def set_owner(self, state: SessionState, owner: str | None, keep: Keep, *, login: bool) -> None:
        """File the session under an owner, or none, with a new ID.

        Raises:
            TooManySessions: nothing was changed.
            StoreError: the owner's list can't be read; nothing was changed.
        """
        now = self._settings.clock()
        # Otherwise the next page that reads the damaged field would sign the user out again.
        begins_anew = login and state.fields.is_damaged(kept_fields(keep))
        place, limit = None, self._settings.places
        if owner is not None and limit is not None:
            place = self._reserve(state, owner, now if login else state.notes.started_at, limit)
        former = state.intent.place
        if former is not None and (place is None or place.owner != former.owner):
            self._committer.give_back_place(state)
        changes: dict[str, Any] = {"owner": owner, "place": place, "revoked": False}
        if login:
            state.logged_in = True
            changes["login"] = True
            changes["notes"] = {**state.intent.notes, "started_at": now, "authenticated_at": now}
        else:
            # Whoever it is filed under now hasn't signed in.
            changes["notes"] = {**state.intent.notes, "authenticated_at": None}
        before = state.owner
        self._ask_new_id(state, keep, **changes)
        if before is not None and before != owner:
            # These parts say where the former owner signed in.
            for part in self._settings.label:
                state.label.pop(part, None)
        if owner is not None:
            add_to_label(state.label, state.request, self._settings.label)
        if begins_anew:
            self._committer.begin_anew(state)

    def _reserve(
        self, state: SessionState, owner: str, started_at: float, limit: int
    ) -> Place | None:
        """Hold a place in the owner's list for the login that comes with the commit."""
        stored = state.stored
        if stored is not None and stored.record.owner == owner:
            return None
        key, until = self.identify(state).key, self._owners.until(started_at)
        epoch = 0 if stored is None else stored.record.epoch + 1
        leaving = [passed.id.key for passed in state.passed_over]
        return self._owners.enter_if_free(
            owner, key, until=until, epoch=epoch, limit=limit, leaving=leaving
        )

    def destroy(self, state: SessionState) -> None:
        """End the session now, and every other one that the client presented.

        Raises:
            StoreError: the store can't; another try ends what is left.
        """
        stored = state.stored
        state.cookie = CookieStep.EXPIRE if state.request.tokens else CookieStep.LEAVE
        if state.error is not None:
            raise state.error
        self._committer.give_back_place(state)
        targets = state.passed_over if stored is None else (stored, *state.passed_over)
        tried, begun = state.intent.tried, state.base_notes
        state.begin(self._settings.clock(), self._settings.codec, targets)
        if stored is None and tried:
            # Kept until that session has ended, too, by the time at which it was begun.
            state.base_notes = begun
            state.ask(tried=tried)
        self._committer.end_passed_over(state)
        self._committer.end_tried(state)
        self._bury(state)

    def _bury(self, state: SessionState) -> None:
        """See to it that no old cookie of this request leads to a session any more.

        Raises:
            StoreError: our store or the old one can't; another try may.
        """
        if self._carrier is None:
            return
        own = None if state.stored is None else state.stored.id.key
        for other in self._carrier.bury(state.request, self._settings.clock()):
            if other.id.key != own:
                self._committer.end(state, other)

    def _bury_if_signed_out(self, state: SessionState) -> None:
        # Before that is written, so that another try does both.
        stored = state.stored
        if stored is not None and stored.record.owner is not None and state.owner is None:
            self._bury(state)

    def save(self, state: SessionState, *, headers_sent: bool) -> None:
        """Commit now what a commit would write; see `Committer.save`."""
        if self._carrier is not None:
            self._bury_if_signed_out(state)
        self._committer.save(state, headers_sent=headers_sent)

    def transact(
        self,
        state: SessionState,
        function: Callable[[MutableMapping[str, Any]], T],
        *,
        headers_sent: bool,
    ) -> T:
        """Run a function on fresh data; see `Transactions.run`.

        Raises:
            UnsupportedByStore: the data lives with the client.
        """
        if self._transactions is None:
            raise UnsupportedByStore(
                "the session's data lives with the client, so the server can't count, order or"
                " end what other requests do; use a store on the server for transaction, take and"
                " increment"
            )
        return self._transactions.run(state, function, headers_sent=headers_sent)

    def commit(self, state: SessionState, response: Response) -> tuple[Header, ...]:
        """Do what the response asks for, and return its headers; see `Committer.commit`."""
        if self._carrier is not None and not response.failed:
            self._bury_if_signed_out(state)
        devices = self._devices
        if devices is None:
            token = self._committer.commit(state, response)
            headers: tuple[Header, ...] = () if token is None else (token,)
        else:
            offers = devices.offers(state, response)
            token = self._committer.commit(state, response)
            headers = devices.headers(state, response, token, offers=offers)
        source, transport = state.carried_from, state.request.transport
        if (
            source is None
            or not source.delete_old
            or response.headers_sent
            or not isinstance(transport, CookieTransport)
        ):
            return headers
        if token is None and state.stored is not None and not state.gone:
            # The store couldn't be asked again, and the old cookie is all that the client has.
            return headers
        return headers + transport.expire_other(source.cookie, secure=state.request.secure)

    def answer_device(self, environ: Environ, transport: Transport) -> Answer | None:
        """The answer to a request that the browser makes by itself to bind its session, or to
        prove it; None: the request is the app's.
        """
        return None if self._devices is None else self._devices.answer(environ, transport)

    def set_lifetime(self, state: SessionState, lifetime: Lifetime) -> None:
        """Give the session limits of its own; the settings' cap them whenever they are read."""
        idle, absolute = lifetime.idle_seconds, lifetime.absolute_seconds
        if (idle, absolute) == (state.notes.idle, state.notes.absolute):
            return
        limits = self._settings.limits
        for name, asked, cap in (
            ("idle", idle, limits.idle),
            ("absolute", absolute, limits.absolute),
        ):
            # A Lifetime's default was hardly chosen on purpose.
            if asked > cap and getattr(lifetime, name) != getattr(_DEFAULT, name):
                self._reports.capped_lifetime(name, asked, cap)
        state.ask_notes(idle=idle, absolute=absolute)

    def check_domain(self, environ: Environ, domain: str) -> None:
        """Say so once if a browser wouldn't keep a cookie of this domain from such a request."""
        host = environ.get("HTTP_HOST")
        if isinstance(host, str) and not domain_matches(domain, host):
            self._reports.foreign_domain(domain, host)

    def outage(self, state: SessionState | None, error: StoreError) -> None:
        """Report a StoreError that the app didn't handle, unless it was reported already."""
        self._reports.outage(None if state is None else state.request, error)

    def check(self, state: SessionState) -> None:
        """Raise what a commit would raise because of the data alone; see `Committer.check`."""
        self._committer.check(state)

    def drop(self, state: SessionState) -> None:
        """Give up what the app has asked for and changed; see `Committer.drop`."""
        self._committer.drop(state)

    def corrupted(self, state: SessionState) -> None:
        """A field can't be decoded; see `Committer.corrupted`."""
        self._committer.corrupted(state)

    def begin_anew(self, state: SessionState) -> None:
        """A field that can't be decoded is written; see `Committer.begin_anew`."""
        self._committer.begin_anew(state)

    def late_access(self) -> None:
        """Say, once, that Vary could not be added to a response."""
        self._reports.late_access()


def _apart_from_the_session(is_passive: IsPassive) -> IsPassive:
    """The same function, which is told so if it uses the session: that would ask it again."""
    # By thread: those of one request may ask at the same time.
    asking: set[tuple[int, int]] = set()

    def ask(environ: WSGIEnvironment) -> bool:
        own = (get_ident(), id(environ))
        if own in asking:
            raise RuntimeError(
                "the function for passive used the session, which can't be loaded before the"
                " function has answered; let it decide by the environ alone, or set"
                " session.passive in the view"
            )
        asking.add(own)
        try:
            return is_passive(environ)
        finally:
            asking.discard(own)

    return ask


def _devices(settings: EngineSettings, reports: Reports) -> Devices | None:
    if not settings.binds_devices:
        return None
    from .binding import Devices  # noqa: PLC0415 # few apps bind sessions to devices

    return Devices(settings, reports)


def _carrier(
    settings: EngineSettings, loader: Loader, owners: OwnerLists, reports: Reports
) -> Carrier | None:
    if settings.carry_over is None:
        return None
    from .carrying import Carrier  # noqa: PLC0415 # few apps need it, and the readers of old records

    return Carrier(settings, settings.carry_over, loader, owners, reports)
