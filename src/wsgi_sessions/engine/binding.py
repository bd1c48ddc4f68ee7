"""Sessions bound to a device, as the engine sees it: judging, offering, and the two routes.

`device_binding` knows what a proof is and what its absence means; this is where that meets the
store. A request comes here at three points: when its session was found (`Devices.judged`), before
it is committed (`offers`), and when its headers are made (`headers`).

What writes the binding, and why nothing is lost. The key is put into the notes by the registration
alone, and marked as confirmed by the first request that brings the second cookie; both are updates
that hold only for the version that was read, so whatever else happens to the session at that time
wins. If a confirmation loses, the next request makes up for it. The time of an offer goes with
whatever the commit writes, and is put on the notes that the store has by then: a registration that
came in between stays.
"""

from __future__ import annotations

from typing import cast

from .._values import replaced
from ..crypto.session_id import SessionID
from ..data.notes import CorruptNotes, Notes, dump_notes, notes_of
from ..data.standing import Standing
from ..device_binding import (
    Answer,
    Binding,
    BoundState,
    DeviceNotes,
    answer,
    dump_device_notes,
    judge,
    load_device_notes,
    offer_is_due,
    read_request,
    route_of,
)
from ..device_binding.binding import PROVEN, counts, is_confirmed, may_bind
from ..device_binding.transport import BoundTransport, Evidence
from ..errors import StoreError
from ..http.transport import Environ, Header, Transport
from ..proxies import CLIENT_KEY, Client
from ..record import Changes, Record, UpdateResult
from ..stores.encrypted import EncryptedStore
from .changes import applied
from .committing import Response
from .decisions import CookieStep
from .loading import NOTHING, Presented
from .reports import Reports
from .settings import EngineSettings
from .state import Request, SessionState, Stored

REFUSED = Standing(bound=False, proven=False, missing=True, confirm=False)
"""There is a bound session, which this request can't have without a proof."""


class Devices:
    """Binds sessions to devices.

    Args:
        settings: the engine's settings.
        reports: where events go.
    """

    def __init__(self, settings: EngineSettings, reports: Reports) -> None:
        self._settings = settings
        self._reports = reports

    def evidence(self, environ: Environ, transport: Transport) -> Evidence:
        """What the request shows of its device."""
        return _bound(transport).evidence(environ)

    def judged(self, request: Request, presented: Presented, now: float) -> Presented:
        """What the client's tokens lead to, now that its device is looked at."""
        device, stored = request.device, presented.stored
        if device is None or stored is None or not stored.notes.binding:
            return presented
        binder, kept = device.binder, stored.notes.binding
        proven = "device" in kept and binder.proves(device.cookies, stored.id.key, now=now)
        if proven and is_confirmed(kept):
            # Nearly every request of a bound session.
            return _standing_so(presented, stored, PROVEN)
        notes = load_device_notes(kept)
        if notes is None:
            # Never taken for unbound: the session could then be used without proof.
            self._reports.emit("corrupt_record", request, stored, detail="device")
            return NOTHING
        if notes.binding is None:
            return presented
        standing = judge(notes.binding, proven=proven, now=now, grace=binder.grace)
        if standing.confirm:
            confirmed = notes._replace(binding=notes.binding.confirmed())
            stored = self._confirmed(request, stored, confirmed)
        if standing.missing:
            when_missing = binder.settings.when_missing
            self._reports.emit("unproven", request, stored, detail=when_missing)
            if when_missing == "refuse":
                # A login or `destroy` in this request ends it.
                return Presented(passed_over=(stored,), standing=REFUSED)
        return _standing_so(presented, stored, standing)

    def _confirmed(self, request: Request, stored: Stored, device: DeviceNotes) -> Stored:
        """The session once its binding is known to have arrived; where that can't be written now,
        the next request does it.
        """
        notes = stored.notes._replace(binding=dump_device_notes(device))
        changes, record = Changes(notes=dump_notes(notes)), stored.record
        try:
            written = self._settings.store.update(
                stored.id.key, changes, if_epoch=record.epoch, if_version=record.version
            )
        except StoreError as error:
            self._reports.emit("store_error", request, stored, detail=f"confirm: {error}")
            return stored
        if written is not UpdateResult.UPDATED:
            return stored
        return replaced(stored, record=applied(record, changes), notes=notes)

    def offers(self, state: SessionState, response: Response) -> bool:
        """Whether this response should offer to bind the session; asks for the time to be noted."""
        request, stored = state.request, state.stored
        device = request.device
        if device is None or state.standing.bound or state.owner is None or not request.secure:
            return False
        if response.failed or response.public or response.headers_sent:
            return False
        if state.passive and not state.logged_in:
            return False
        now = self._settings.clock()
        notes = DeviceNotes() if stored is None else load_device_notes(stored.notes.binding)
        if notes is None or not offer_is_due(
            notes.binding,
            logged_in=state.logged_in,
            offered_at=notes.offered_at,
            now=now,
            grace=device.binder.grace,
        ):
            return False
        if counts(device.fetch_site):
            state.ask(offered_at=now)
        return True

    def headers(
        self, state: SessionState, response: Response, token: Header | None, *, offers: bool
    ) -> tuple[Header, ...]:
        """The headers of a response: the one of the token, if any, and those for the device."""
        made = () if token is None else (token,)
        device = state.request.device
        to_do = offers or token is not None or state.standing.missing
        if device is None or not to_do or response.headers_sent:
            return made
        ends = token is not None and state.cookie is CookieStep.EXPIRE
        # Of a session that the browser has no longer, or that it doesn't prove.
        useless = token is not None and not state.standing.bound
        useless = useless or (state.standing.missing and not response.public)
        if ends or (useless and device.binder.is_sent(device.cookies)):
            # While the browser has a cookie of that name it sees no need to refresh.
            made = (*made, device.binder.expire_cookie())
        offered = self._offer(state, device) if offers else None
        return made if offered is None else (*made, offered)

    def _offer(self, state: SessionState, device: Evidence) -> Header | None:
        """The offer, after the commit; None if that left nothing to offer."""
        if state.intent.offered_at is not None:
            # It could not be noted.
            state.ask(offered_at=None)
            return None
        stored, binder, now = state.stored, device.binder, self._settings.clock()
        notes = None if stored is None or state.gone else load_device_notes(stored.notes.binding)
        if stored is None or notes is None or not may_bind(notes.binding, now, binder.grace):
            # It ended, or was bound, while this request was answered.
            return None
        header = binder.offer(stored.id.key, now=now, script_name=device.script_name)
        if header is None:
            self._settings.events.explain(
                "device-binding-path",
                f"Sessions can't be bound here: the path {binder.settings.path!r} under"
                f" {device.script_name!r} isn't covered by the cookie's path. Set"
                " DeviceBinding(path=…) to one that is.",
            )
        return header

    def answer(self, environ: Environ, transport: Transport) -> Answer | None:
        """The answer to the browser's own request to one of the two routes; None: it is the app's.
        Never raises StoreError.
        """
        transport = _bound(transport)
        route = route_of(transport.binder, environ)
        if route is None:
            return None
        verified = map(transport.signer.verify, transport.candidates(environ).values)
        handles = tuple(SessionID(found[0]).key for found in verified if found is not None)
        client = environ.get(CLIENT_KEY)
        client_ip = client.ip if isinstance(client, Client) else None
        sessions = StoredSessions(self._settings, client_ip)
        request = read_request(route, environ, handles)
        given = answer(transport.binder, request, sessions, self._settings.clock())
        if given.bound is not None:
            sessions.tell("device_bound", given.bound)
        return given


def _standing_so(presented: Presented, stored: Stored, standing: Standing) -> Presented:
    return Presented(
        stored, presented.stale_token, presented.passed_over, standing, presented.carried_from
    )


def _bound(transport: Transport) -> BoundTransport:
    # Where sessions are bound to devices, every transport is one of these.
    return cast("BoundTransport", transport)


class StoredSessions:
    """What the routes need from the engine, for one request: `device_binding.BoundSessions`.

    Args:
        settings: the engine's settings.
        client_ip: the client's address, for events.
    """

    def __init__(self, settings: EngineSettings, client_ip: str | None) -> None:
        self._settings = settings
        self._client_ip = client_ip
        self._found: tuple[Record, Notes, DeviceNotes] | None = None

    def tell(self, kind: str, handle: str, detail: str = "") -> None:
        """Report an event of the session that was found last."""
        owner = None if self._found is None else self._found[0].owner
        self._settings.events.emit(
            kind, handle=handle, owner=owner, client_ip=self._client_ip, detail=detail
        )

    def find(self, handle: str) -> BoundState | None:
        """The live session of this handle; None if the store says that it is gone."""
        self._found = None
        try:
            found = self._load(handle)
        except StoreError as error:
            self.tell("store_error", handle, f"device binding: {error}")
            raise
        if found is None:
            return None
        self._found = found
        record, _, device = found
        return BoundState(device.binding, record.owner is not None)

    def _load(self, handle: str) -> tuple[Record, Notes, DeviceNotes] | None:
        settings = self._settings
        store, now = settings.store, settings.clock()
        record = store.load(handle)
        if record is None:
            # One that is encrypted under a key that this process doesn't have isn't gone.
            if isinstance(store, EncryptedStore) and store.store.load(handle) is not None:
                raise _unreadable()
            return None
        if record.is_owner_list:
            return None
        try:
            notes = notes_of(record)
        except CorruptNotes:
            raise _unreadable() from None
        if now >= settings.deadline_of(record, notes, now):
            return None
        device = load_device_notes(notes.binding)
        if device is None:
            raise _unreadable()
        return record, notes, device

    def bind(self, handle: str, binding: Binding) -> bool:
        """Put the binding into the notes of the session that `find` gave last."""
        if self._found is None:
            return False
        record, notes, device = self._found
        kept = dump_device_notes(device._replace(binding=binding))
        changes = Changes(notes=dump_notes(notes._replace(binding=kept)))
        try:
            written = self._settings.store.update(
                handle, changes, if_epoch=record.epoch, if_version=record.version
            )
        except StoreError as error:
            self.tell("store_error", handle, f"device binding: {error}")
            raise
        return written is UpdateResult.UPDATED


def _unreadable() -> StoreError:
    # Another process may be able to: the browser must not be told that the session is over.
    return StoreError("the session's record can't be read", operation="load")
