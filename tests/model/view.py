"""What one request should see of its session, and what its commit should make of the stored one.

Pure: a `View` is told what was loaded and what the app did; it says which exceptions are right,
what a read gives, and by `effect` what a commit turns a stored `State` into. That function of the
state *as it is then* is the whole of "only the fields that it changed".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .scenario import Op


class _Bad:
    def __repr__(self) -> str:
        return "BAD"

    def __deepcopy__(self, memo: object) -> _Bad:
        return self


BAD = _Bad()
"""Stands for a value that can't be stored, put where only the commit can see it."""
FILLED = ("ip", "user_agent")
"""Parts of the label that the middleware fills in."""


class State(NamedTuple):
    """What a session holds."""

    fields: dict[str, Any]
    owner: str | None = None
    label: dict[str, Any] | None = None
    """None: not said."""


def bare(label: Any) -> dict[str, Any]:
    return {name: text for name, text in dict(label).items() if name not in FILLED}


def is_nothing(state: State | None) -> bool:
    """A session that holds nothing is as good as none."""
    return state is None or (not state.fields and state.owner is None)


def matches(expected: State | None, seen: State | None) -> bool:
    if expected is None or seen is None or is_nothing(expected) or is_nothing(seen):
        return is_nothing(expected) and is_nothing(seen)
    if expected.fields != seen.fields or expected.owner != seen.owner:
        return False
    return expected.label is None or seen.label is None or expected.label == seen.label


@dataclass
class View:
    """The session as one request has it."""

    stored: bool = False
    """Whether it is in the store, as far as this request knows."""
    base: State = State({}, None, {})
    """As it was loaded, or last written."""
    fields: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    label: dict[str, Any] = field(default_factory=dict)
    keep: frozenset[str] | None = None
    new_id: bool = False
    login: bool = False
    labelled: bool = False
    """Whether the app set the label, perhaps to what it was."""
    in_doubt: bool = False
    """Whether what was pending may be stored already: the answer to its write was lost."""
    sent: frozenset[str] = frozenset()
    """The fields that it wrote or deleted then."""

    @classmethod
    def of(cls, state: State | None) -> View:
        if state is None:
            return cls()
        label = dict(state.label or {})
        return cls(True, state, dict(state.fields), state.owner, label)

    @property
    def now(self) -> State:
        return State(dict(self.fields), self.owner, dict(self.label))

    @property
    def unstorable(self) -> bool:
        values = [*self.fields.values(), *self.label.values()]
        texts = self.label.values()
        if len(self.label) > 16 or not all(isinstance(t, str) and len(t) <= 256 for t in texts):
            return True
        return any(
            value is BAD or (isinstance(value, list) and any(one is BAD for one in value))
            for value in values
        )

    def changes(self) -> tuple[dict[str, Any], set[str]]:
        """The fields to set and to delete."""
        kept, base = self.keep, self.base.fields
        set_ = {
            name: value
            for name, value in self.fields.items()
            if name not in base
            or base[name] != value
            or name in self.sent
            or (kept is not None and name not in kept)
        }
        return set_, {name for name in {*base, *self.sent} if name not in self.fields}

    @property
    def pending(self) -> bool:
        """Whether a commit would write data."""
        if not self.stored:
            return not is_nothing(self.now)
        if self.in_doubt:
            return True
        base = self.base
        return (
            self.new_id
            or self.fields != base.fields
            or self.owner != base.owner
            or self.label != base.label
        )

    def effect(self, state: State | None) -> State | None:
        """What a commit makes of the stored state; None: there is none."""
        set_, delete = self.changes()
        if not self.stored:
            return self.now
        if state is None:
            return State(set_, self.owner) if self.login else None
        fields = {
            name: value
            for name, value in state.fields.items()
            if name not in delete and (self.keep is None or name in self.keep)
        }
        unchanged = self.owner == self.base.owner and not self.in_doubt
        owner = state.owner if unchanged else self.owner
        label: dict[str, Any] | None
        label = state.label if self.label == self.base.label else dict(self.label)
        # With nothing kept, the label goes as well, whatever another request put into it.
        written = self.owner != self.base.owner or self.labelled
        if written and state.label != self.base.label:
            label = None  # it is written as a whole, and another request changed it, too
        return State(fields | set_, owner, label)

    def settle(self, state: State, *, stored: bool) -> None:
        """A commit was done: from now on, this is what was last written."""
        self.stored = stored
        self.base = state
        self.fields, self.owner = dict(state.fields), state.owner
        self.label = dict(state.label or {})
        self.keep, self.new_id, self.login, self.labelled = None, False, False, False
        self.in_doubt, self.sent = False, frozenset()

    def doubt(self) -> None:
        """The answer to a write of what is pending was lost."""
        if self.pending:
            set_, delete = self.changes()
            self.in_doubt, self.sent = True, self.sent | {*set_, *delete}

    # What the app does

    def may_raise(self, op: Op) -> tuple[str, ...]:
        """Exceptions that this operation must raise, by name; empty: it must not."""
        name, args = op[0], op[1:]
        has = bool(args) and isinstance(args[0], str) and args[0] in self.fields
        match name:
            case "item" | "del" if not has:
                return ("KeyError",)
            case "append" | "append_object":
                if not has:
                    return ("KeyError",)
                return () if isinstance(self.fields[args[0]], list) else ("AttributeError",)
            case "increment":
                return () if _is_number(self.fields.get(args[0], 0)) else ("TypeError",)
            case "broken_transaction":
                return ("Boom",)
            case "owner" if args[0] is not None and not 0 < len(args[0]) <= 256:
                return ("ValueError",)
            case "set_object" | "set_nan" | "set_number_key" | "bad_label":
                return ("TypeError", "ValueError")
            case "lifetime" if args[0] <= 0:
                return ("ValueError",)
            case _:
                return ()

    def read(self, op: Op) -> tuple[bool, Any]:
        """Whether it is said what this read gives, and what."""
        match op:
            case ("look",):
                return True, (self.fields, self.owner)
            case ("get" | "item", name):
                return True, self.fields.get(name)
            case ("in", name):
                return True, name in self.fields
            case ("len",):
                return True, len(self.fields)
            case _:
                return False, None

    def think(self, op: Op) -> None:
        """The app did this, and it succeeded."""
        match op:
            case ("set", name, value):
                self.fields[name] = value
            case ("del" | "pop", name):
                self.fields.pop(name, None)
            case ("update", values):
                self.fields.update(values)
            case ("setdefault", name, value):
                self.fields.setdefault(name, value)
            case ("append", name, value):
                self.fields[name] = [*self.fields[name], value]
            case ("append_object", name):
                self.fields[name] = [*self.fields[name], BAD]
            case ("clear",):
                self.fields = {}
            case ("owner", owner):
                if owner != self.owner:
                    self._renew(True)
                    self.owner = owner
            case ("login", owner, *rest):
                self._renew(rest[0] if rest else True)
                self.owner, self.login = owner, True
            case ("regenerate", *rest):
                self._renew(rest[0] if rest else True)
            case ("label", label):
                self.label, self.labelled = dict(label), True
            case ("set_label", name, value):
                self.label[name] = value
                self.labelled = True
            case ("spoil_label", "many"):
                self.label.update({str(number): "x" for number in range(20)})
            case ("spoil_label", *_):
                self.label["device"] = BAD
            case _:
                pass

    def _renew(self, keep: Any) -> None:
        self.new_id = True
        if keep is True:
            return
        names = frozenset() if keep is False else frozenset(keep)
        self.fields = {name: value for name, value in self.fields.items() if name in names}
        self.keep = names if self.keep is None else self.keep & names
        if keep is False:
            self.owner, self.label, self.labelled = None, {}, True


def transacted(op: Op, state: State | None) -> tuple[State | None, Any]:
    """What a transaction makes of a state, and what it returns."""
    fields = {} if state is None else dict(state.fields)
    owner, label = (None, None) if state is None else (state.owner, state.label)
    match op:
        case ("transaction", name, value):
            result, fields[name] = fields.get(name), value
        case ("take", name):
            result = fields.pop(name, None)
        case ("increment", name, *by):
            result = fields[name] = fields.get(name, 0) + (by[0] if by else 1)
        case _:
            result = None
    return State(fields, owner, label), result


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
