"""The writer for sessions that travel in their token: no store, so no other request can interfere.

The same steps as for a store. What is written is sealed into the token when the response is made;
here it is sealed once to check that it fits.
"""

from __future__ import annotations

from ..client_side import ClientSeal
from ..errors import SessionTooLarge
from .changes import (
    GONE,
    Outcome,
    Work,
    changes_on,
    first_notes,
    first_stored,
    too_large,
)
from .decisions import Result, StoreStep
from .reports import Reports
from .settings import EngineSettings
from .state import Stored


class SealedWriter:
    """Carries out store steps on the token.

    Args:
        settings: the engine's settings.
        seal: seals records.
        reports: where events go.
    """

    def __init__(self, settings: EngineSettings, seal: ClientSeal, reports: Reports) -> None:
        self._settings = settings
        self._seal = seal
        self._reports = reports

    def carry_out(self, work: Work, stored: Stored | None) -> Outcome:
        """Do the store step.

        Raises:
            SessionTooLarge: no browser would keep it.
        """
        if stored is None:
            return self._begin(work)
        if work.step in (StoreStep.END, StoreStep.DELETE_EMPTIED):
            self._reports.emit("destroyed", work.request, stored, detail="emptied")
            return Outcome(Result.DELETED)
        if work.now >= stored.deadline:
            if work.step is not StoreStep.TOUCH:
                self._reports.write_after_end(work.request, stored)
            return GONE
        _, after = changes_on(stored, work, self._settings, float("-inf"))
        self._check(work, stored, after)
        if work.intent.id is None:
            return Outcome(Result.WRITTEN, after)
        self._reports.emit("regenerated", work.request, after)
        return Outcome(Result.NEW_ID, after)

    def _begin(self, work: Work) -> Outcome:
        session_id = work.intent.id or self._settings.ids.new()
        stored = first_stored(work, session_id, first_notes(work, session_id), self._settings)
        self._check(work, None, stored)
        self._reports.emit("created", work.request, stored)
        return Outcome(Result.NEW_ID, stored)

    def _check(self, work: Work, stored: Stored | None, after: Stored) -> None:
        present = None if stored is None else stored.record
        error = too_large(present, after.record.fields, self._settings.max_bytes)
        try:
            if error is not None:
                raise error
            self._seal.seal(after.id.id, after.record, work.request.transport.purpose)
        except SessionTooLarge as error:
            detail = str(error).partition(";")[0]
            self._reports.emit("too_large", work.request, stored, detail=detail)
            raise
