"""Draws scenarios. Each run leaves most things out, so that those that it has meet often."""

from __future__ import annotations

from random import Random
from typing import Any

from . import scenario as s

NAMES, OWNERS = ("a", "b", "n", "l"), ("u", "v")
BROWSERS = 2
LABELS = ("long", "number", "many")
OPTIONS: dict[str, tuple[Any, ...]] = {
    "rolling": (True,),
    "save_on_error": (True,),
    "rotate_after": (100,),
    "max_bytes": (40, 120),
    "max_per_owner": (1, 2),
    "when_full": ("refuse",),
    "persistent": (True,),
    "touch_interval": (0, 10),
    "save_uninitialized": (True,),
    "max_sessions": (2, 3),
}
TICKS = (1, 20, 40, 61, 101, 101, 101, 400, 400, 950, 950, 1100, 2900)
BACK = (-20, -500)
KEEP: tuple[bool | list[str], ...] = (True, False, [], ["a"], ["a", "n"])


class Drawing:
    """One scenario in the making."""

    def __init__(self, random: Random, store: str) -> None:
        self.random = random
        self.store = store
        chance = self._chance
        self.races, self.failures = chance(0.5), chance(0.4)
        self.clock, self.back = chance(0.5), chance(0.15)
        self.streams, self.errors = chance(0.3), chance(0.4)
        self.damages, self.helper = chance(0.05), chance(0.1)
        self.secrets, self.bad = chance(0.15), chance(0.15)
        self.number = 0
        kinds = list(self._weights())
        self.kinds = random.sample(kinds, random.choice((2, 3, 4, 6, 10, len(kinds))))

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def scenario(self) -> s.Scenario:
        options = {
            name: self.random.choice(values)
            for name, values in OPTIONS.items()
            if self._chance(0.2)
        }
        if "when_full" in options:
            options.setdefault("max_per_owner", 1)
        if self.store != "memory":
            options.pop("max_sessions", None)
        if self.store == "client":
            for name in ("rotate_after", "max_per_owner", "when_full"):
                options.pop(name, None)
        self.clock = self.clock or "rotate_after" in options
        events = [self.event(0) for _ in range(self.random.randint(2, 14))]
        events += (
            [s.Deliver(browser) for browser in range(BROWSERS)] if "late" in repr(events) else []
        )
        if self._chance(0.3):
            options["ticking"] = True
        return s.Scenario(self.store, options, events)

    def event(self, depth: int) -> s.Event:
        random = self.random
        if self.clock and self._chance(0.25):
            return s.Tick(random.choice(TICKS))
        if self.back and self._chance(0.1):
            return s.Tick(random.choice(BACK))
        if self.secrets and depth == 0 and self._chance(0.15):
            return s.NewSecret()
        if self.damages and self._chance(0.2):
            return s.Damage(self._browser(), random.choice(NAMES))
        if self._chance(0.7):
            return self.request(depth)
        choices: list[s.Event] = [
            s.Deliver(self._browser()),
            s.Deliver(self._browser()),
            s.Share(0, 1),
            s.Forget(self._browser()),
            s.Revoke(self._browser()),
            s.RevokeAll(random.choice(OWNERS), random.choice((None, None, *range(BROWSERS)))),
            s.Audit(),
            s.Purge(),
        ]
        if self.store == "encrypted":
            choices.append(s.Stranger(random.choice(OWNERS)))
        return random.choice(choices)

    def _browser(self) -> int:
        return 0 if self._chance(0.85) else self.random.randrange(BROWSERS)

    def request(self, depth: int) -> s.Request:
        random = self.random
        ends = ["list"] * 4
        if self.errors:
            ends += ["error", "raise"]
        if self.streams:
            ends += ["stream", "stream", "stream_raise", "stream_error"]
        made = s.Request(self._browser(), end=random.choice(ends))
        made.ops = self._ops(depth, random.choice((0, 1, 1, 2, 3, 4)))
        if made.end.startswith("stream"):
            made.tail = self._ops(depth, random.choice((0, 1, 2)))
        if self.helper and self._chance(0.3):
            made.via, made.end, made.tail = "session_of", "list", []
        made.late = self._chance(0.3 if depth else 0.1) and made.via == "wsgi"
        if depth < 2 and self.store != "client":
            made.at = self._at(depth)
        return made

    def _at(self, depth: int) -> dict[int, Any]:
        at: dict[int, Any] = {}
        if self.races and self._chance(0.35):
            at[self.random.choice((1, 1, 2, 2, 3, 4, 5, 6))] = self.event(depth + 1)
        if self.failures and self._chance(0.3):
            fail = s.Fail(answer_lost=self._chance(0.3), lasting=self._chance(0.2))
            at.setdefault(self.random.choice((0, 1, 1, 2, 2, 3, 4, 5, 6)), fail)
        return at

    # Operations

    def _ops(self, depth: int, number: int) -> list[s.Op]:
        ops: list[s.Op] = []
        for _ in range(number):
            if self.races and depth < 2 and ops and self._chance(0.15):
                ops.append(("meanwhile", self.event(depth + 1)))
                continue
            op = self._op()
            ops.append(("try", op) if self._chance(0.4 if self.failures else 0.15) else op)
        return ops

    def _value(self) -> Any:
        self.number += 1
        # Of fields this long, two fit into the smaller max_bytes, and three don't.
        if self._chance(0.15):
            return "x" * self.random.choice((14, 14, 14, 120))
        return self.number

    def _weights(self) -> tuple[str, ...]:
        return (
            "read", "read", "set", "set", "remove", "clear", "list", "owner", "login", "login",
            "regenerate", "destroy", "save", "save", "reload", "touch", "transaction", "take",
            "increment", "label", "persistent", "lifetime", "bad",
        )  # fmt: skip

    def _op(self) -> s.Op:
        random, name = self.random, self.random.choice(NAMES)
        match random.choice(self.kinds):
            case "set":
                return random.choice(
                    [
                        ("set", name, self._value()),
                        ("update", {name: self._value(), "b": self._value()}),
                        ("setdefault", name, self._value()),
                    ]
                )
            case "remove":
                return (random.choice(("del", "pop")), name)
            case "clear" | "save" | "reload" | "destroy" | "touch" as plain:
                return (plain,)
            case "list":
                if self._chance(0.5):
                    return ("set", "l", [self._value()])
                return ("append", "l", self._value())
            case "owner":
                return ("owner", random.choice((*OWNERS, None)))
            case "login":
                return self._with_keep(("login", random.choice(OWNERS)))
            case "regenerate":
                return self._with_keep(("regenerate",))
            case "transaction":
                if self._chance(0.2):
                    return ("broken_transaction", name)
                return ("transaction", name, self._value())
            case "take":
                return ("take", name)
            case "increment":
                return ("increment", name if self._chance(0.2) else "n")
            case "label":
                return random.choice([("label", {"device": "x"}), ("set_label", "device", "y")])
            case "persistent":
                return ("persistent", self._chance(0.7))
            case "lifetime":
                return ("lifetime", *random.choice(((200, 500), (1000, 3000), (5000, 9000))))
            case "bad" if self.bad:
                return self._bad(name)
            case _:
                return self._read(name)

    def _with_keep(self, op: s.Op) -> s.Op:
        keep = self.random.choice(KEEP) if self._chance(0.5) else True
        return op if keep is True else (*op, keep)

    def _bad(self, name: str) -> s.Op:
        random = self.random
        choices: list[s.Op] = [
            ("set_object", name),
            ("append_object", "l"),
            ("set_nan", name),
            ("set_number_key",),
            ("bad_label", random.choice(LABELS)),
            ("spoil_label", random.choice(LABELS)),
            ("owner", ""),
            ("lifetime", 0, 10),
        ]
        return random.choice(choices)

    def _read(self, name: str) -> s.Op:
        return self.random.choice(
            [("look",), ("get", name), ("item", name), ("in", name), ("len",), ("id",),
             ("properties",)]
        )  # fmt: skip


def draw(seed: int, store: str) -> s.Scenario:
    """The scenario of this seed."""
    return Drawing(Random(f"{store} {seed}"), store).scenario()
