"""One request as the oracle follows it, with its end: the commit, the answer, the cookie."""

from __future__ import annotations

from dataclasses import replace

from wsgi_sessions import SessionCommitted, SessionTooLarge, StoreError, TooManySessions

from .doing import Doing
from .operations import CHANGES, COMMITS, Boom
from .scenario import Op
from .steps import Effect
from .view import is_nothing, matches
from .world import id_of


class Visit(Doing):
    """A request's session, seen from outside."""

    def begin_commit(self) -> None:
        if self.session is not None and not self.broken:
            self.begin(self.session)
        else:
            self.gaps, self.watching = [self.now()], True

    def end_commit(self, *, raised: bool = False, error: BaseException | None = None) -> None:
        """The commit at the end of the request, or of the stream, is over."""
        if self.session is None:
            self.watching = False
            return
        keeps = self.world.options.get("save_on_error", False)
        nothing = (self.failing and not self.tail) or (raised and not keeps)
        view = self.view
        if raised and view.new_id:
            # There is no new ID without an answer, and so nothing that isn't kept at it.
            view = replace(view, keep=None)
        effect: Effect = (lambda state: state) if nothing else view.effect
        if self.lost_write and (nothing or raised or error is not None):
            # What it had stored under an ID that nobody got is ended again.
            self.vague = True
            if self.family is not None:
                self.family.unknown, self.family.must = True, False
        # Whether a stream that began with a 500 may save at its end, isn't said.
        optional = raised or (self.failing and self.tail)
        bad = self.view.unstorable and not (nothing or optional or self.vague)
        self._end_step(effect, error=error, optional=optional or bad, asked=not nothing)
        if bad and error is None:
            self.oracle.check(
                is_nothing(self.view.now) or not self.world.shared,
                "accepted",
                "what can't be stored was committed",
            )
        # Whether what a failed answer dropped is still there for the rest of a stream, isn't said.
        self.vague = self.vague or (self.request.end == "stream_error" and nothing)
        self.committed = error is None and not (nothing or raised or optional)
        if self.committed and self.view.stored and self.world.shared and not optional:
            self._check_new_id()
        if self.committed and self.request.end.startswith("stream") and not self.broken:
            self._sync(self.session, settled=True)

    def headers(self, status: str) -> None:
        """The headers go out, so the commit is over."""
        if self.raised:
            self.end_commit(raised=True)
        elif status.startswith("503"):
            creates = "save_uninitialized" in self.world.options and not self.view.stored
            self.oracle.check(
                self.changes_something() or creates or not self.loaded or self.broken,
                "housekeeping",
                "a request that only read was answered with 503",
            )
            self.end_commit(error=StoreError("503"))
            # With save_on_error, closing the body tries once more.
            self.vague = True
            if self.family is not None and "save_on_error" in self.world.options:
                self.family.unknown = True
        else:
            self.end_commit()

    def broken_off(self, error: Exception) -> None:
        """An exception came out of the middleware."""
        if self.watching:
            self.end_commit(raised=self.raised, error=None if self.raised else error)

    def complete(self) -> None:
        """The response is complete."""
        if self.watching:
            self.end_commit()

    def may_escape(self, error: BaseException) -> bool:
        """Whether this exception may come out of the middleware."""
        if error is self.app_error or isinstance(error, Boom):
            return True
        if not self.changes_something():
            return False
        if isinstance(error, TooManySessions):
            return self._may_lose_its_place()
        if isinstance(error, SessionTooLarge):
            return "max_bytes" in self.world.options or not self.world.shared
        if isinstance(error, StoreError):
            return self.faulty and (self.tail or self.request.via == "session_of")
        if isinstance(error, (TypeError, ValueError)):
            return self.view.unstorable
        if isinstance(error, SessionCommitted):
            return self.tail and not self.world.shared
        return False

    def changes_something(self) -> bool:
        return any(op[0] in CHANGES or op[0] in COMMITS for op in self.all_ops())

    def all_ops(self) -> list[Op]:
        both = [*self.request.ops, *self.request.tail]
        return [op[1] if op[0] == "try" else op for op in both]

    def answered(self, token: str | None) -> None:
        """The headers went out: the cookie tells the truth."""
        check = self.oracle.check
        if token and self.world.shared:
            seen = self.world.peek(token)
            known = self.vague or self.clocked or self.world.evicted or self.lost_write
            # A login stands though the list can't be read again to see whether it was revoked.
            unchecked = self.faulty and self.revocable
            if seen is None and (known or unchecked or (self.unsure and self.wrote)):
                # The store said that it lives, and only after that it was ended.
                if self.vague:
                    self.oracle.doubt(id_of(token))
                return
            check(seen is not None, "cookie_lies", "the response sets a token that leads nowhere")
            if seen is None:
                return
            same = seen.id == id_of(token) or self.lost_write
            check(same, "cookie_lies", "the response sets a replaced ID")
            family = self.oracle.family_of(seen, token)
            if family is not None and self.family is None:
                self.family, self.epoch = family, family.epoch
        if not self.loaded:
            check(token is None, "untouched", "a response that didn't use the session has a cookie")
            return
        if self.vague or self.broken:
            return
        reach = self.token if token is None else token or None
        if not self.world.shared:
            seen = self.world.peek(reach)
            state = None if seen is None else seen.state
            fine = matches(self.virtual, state) or self.clocked
            check(fine, "client", f"{self.virtual} became {state}")
            return
        if token == "":
            seen = None if self.destroyed else self.world.peek(self.token)
            state = None if seen is None else seen.state
            check(is_nothing(state), "expired_alive", f"the cookie of {state} was expired")
        state = self.now()
        # What was revoked and couldn't be deleted then, goes when the list is next read.
        revoked = self.faulty and self.revocable
        if not is_nothing(state) and not self.lost_write and not revoked:
            jar = self.world.jars[self.request.browser]
            check(
                self.world.peek(reach) or self.world.peek(jar) or (self.raced and self.clocked),
                "unreachable",
                f"{state} lives, and the browser has no token that leads to it",
            )
