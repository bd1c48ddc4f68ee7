"""The results as text: tables for the terminal and for docs/benchmarks.md, and the plot."""

from __future__ import annotations

# ruff: noqa: ISC004 # sentences go on over several lines
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = (
    "wsgi-sessions", "werkzeug", "itsdangerous", "orjson", "Beaker", "Flask", "Flask-Session",
    "Flask-SQLAlchemy", "cachelib", "msgspec", "Django", "redis", "hiredis", "SQLAlchemy", "psycopg",
    "cryptography", "gunicorn",
)  # fmt: skip
_COMPILED = (
    "What is left of the time is Python's own, as an experiment shows that isn't part of a run:"
    " `engine/`, `http/`, `data/`, `crypto/`, `session`, `cookie`, `record` and `lifetime` compiled"
    " to C with mypyc 2.4, beside the same modules as they are, in one process of CPython 3.11, taking"
    " turns, on memory with 100 B. Compiled, a read costs 0.75 of what it costs here, a forged"
    " cookie 0.82, a new session 0.84, a change 0.88, a sign-in 0.93. A quarter at"
    " most isn't worth a wheel for each platform, so nothing of it is shipped."
)
OURS = "#0b6e4f"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
"""Of storages whose name isn't just capitalized."""
COLOURS = {
    "ours": OURS, "minimum": "#b8b8b8", "Beaker": "#8c6bb1", "Flask-Session": "#4a90c2",
    "Django": "#d98c3f",
}  # fmt: skip


def number(value: object) -> str:
    """A value with as many digits as mean something."""
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows: Mapping[str, Mapping[str, object]], corner: str) -> str:
    """A Markdown table, its columns padded so that it can be read as text, too."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [[corner, *columns]]
    lines += [
        [title, *(number(row[name]) if name in row else "" for name in columns)]
        for title, row in rows.items()
    ]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    out = [_line(line, widths) for line in lines]
    out.insert(1, "| " + " | ".join(
        "-" * width if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths)
    ) + " |")  # fmt: skip
    return "\n".join(out) + "\n"


def _line(cells: list[str], widths: list[int]) -> str:
    padded = [
        text.ljust(width) if at == 0 else text.rjust(width)
        for at, (text, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def with_ratios(row: Mapping[str, float]) -> dict[str, object]:
    """A line of the cost table with how ours stands to the minimum and to the fastest peer."""
    ours = row["ours"]
    peers = {
        name: value
        for name, value in row.items()
        if not name.startswith("ours") and name != "minimum"
    }
    shown: dict[str, object] = {name: round(value, 1) for name, value in row.items()}
    if "minimum" in row:
        # Nothing can be divided by the minimum of an untouched request, which is nothing.
        shown["ours / minimum"] = f"{ours / row['minimum']:.1f}" if row["minimum"] > 0.5 else ""
    if peers and min(peers.values()) > 0:
        shown["ours / fastest peer"] = f"{ours / min(peers.values()):.2f}"
    return shown


def versions() -> dict[str, dict[str, object]]:
    """What was measured with what."""
    found: dict[str, dict[str, object]] = {"Python": {"version": platform.python_version()}}
    for name in PACKAGES:
        try:
            found[name] = {"version": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def document(results: Mapping[str, Any]) -> str:
    """docs/benchmarks.md."""
    cost: dict[str, dict[str, dict[str, float]]] = {**results["cost"], **results["sql"]["cost"]}
    parts = [
        "# Benchmarks",
        "`make bench` made this page: do the same on your machine. The contenders of a line"
        " were measured together, taking turns; a number is the median of"
        f" {results['repetitions']} turns, in SQL databases of 7. Times are CPU time of the client"
        " and of the server (Redis,"
        " PostgreSQL) together, without network, because wall time on a shared machine measures the"
        " neighbours. What the same app costs on the same framework without sessions is"
        " subtracted. Compare numbers within a line; another machine has others."
        + (" **This was a quick run, with fewer and shorter turns.**" if results["quick"] else ""),
        "*minimum* is what a hand-written session can't do without: search the cookie header, one"
        " HMAC, one store access, JSON from the standard library. It has no limits in time, no"
        " protection against races, and knows nothing of proxies. All other contenders are set up"
        " as their documentation shows it, and a dry run checks that each really reads, changes,"
        " renews and ends sessions. orjson and hiredis are installed (the extra `[fast]`); who can use"
        " them does.",
        "![CPU time per request](images/benchmarks.png)",
        "## Microseconds per request",
        "A session of one field reads or changes that field as a whole; one of 50 fields reads or"
        " changes one of them. Below 1 in the last column: faster than every peer.",
    ]
    for storage, rows in cost.items():
        shown = {title: with_ratios(row) for title, row in rows.items()}
        name = NAMES.get(storage, storage.capitalize())
        parts += [f"### {name}", table(shown, "request")]
    parts += [
        "Untouched and forged requests need no storage. Beaker writes at every access, as it is"
        " set up by default; Flask-Session and Flask's own need a Flask request, whose cost is"
        " subtracted. Django's and Flask-Session's caches keep pickles or MessagePack, which load"
        " faster than JSON; nothing here is ever unpickled.",
        "In SQL databases, Django is measured with its backend `db`, Flask-Session with its backend"
        " `sqlalchemy`. Both are set up to their advantage: SQLite is in WAL mode for everyone, and"
        " connections stay open, which Django's default doesn't do.",
        "Beaker's sign-in leaves the old ID alive, which spares it a deletion.",
        _ahead(_cost_ratios(cost)),
        "## Races",
        "Lost: the share of keys that were gone after threads (or processes of two threads each)"
        " had each added keys of their own to one session.",
        table(results["races"]["lost"], "lost updates"),
        f"Resurrected: of {results['races']['rounds']:,} sessions whose logout came in while a"
        " slower request was being answered, how many still worked or held data afterwards.",
        table(results["races"]["resurrected"], "resurrected"),
        "## Memory",
        "Sessions of 200 bytes. The slowest request is one of many that begin sessions while half"
        " a million others have expired: in milliseconds of CPU; reclaimed is the share of the"
        " expired that is gone after these requests.",
        table(results["space"], "on memory"),
        "## One among many",
        "Microseconds per request (the bare app included), and to list the five sessions of one"
        " user, among the sessions of others.",
        table(results["many"], "store"),
    ]
    for title, what, wire in (
        ("Redis", "Commands", results["wire"]),
        ("PostgreSQL", "Statements", results["sql"]["wire"]),
    ):
        if wire:
            parts += [
                f"## {title} on the wire",
                f"{what} / round trips / bytes sent / bytes received.",
                table(_joined(wire), "request"),
            ]
    parts += _load(results)
    parts += [
        "## Options",
        "Microseconds per request on memory, the bare app included.",
        table(results["options"], "request"),
        "The same for a user who is signed in, with `device_binding` and without.",
        table(results["binding"], "request"),
        "## Import",
        table({name: {"ms": value} for name, value in results["imports"].items()}, "module"),
        "`import wsgi_sessions` loads "
        + (", ".join(results["loaded"]) or "neither redis, valkey, flask, django nor cryptography")
        + ".",
    ]
    parts += ["## Compiled", _COMPILED]
    parts += ["## Versions", table(versions(), "package"), f"{results['machine']}."]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _joined(wire: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, object]]:
    return {
        action: {
            name: " / ".join(f"{value:,}" for value in row.values()) for name, row in rows.items()
        }
        for action, rows in wire.items()
    }


def _ahead(lines: Mapping[str, float]) -> str:
    """The lines in which a peer is faster, by name: they are the work that is left.

    Args:
        lines: what ours costs, divided by what the fastest peer costs.
    """
    found = {title: ratio for title, ratio in lines.items() if round(ratio, 2) > 1}
    if not found:
        return "In no line is a peer faster."
    clearly = [f"{title} ({ratio:.2f})" for title, ratio in found.items() if ratio > 1.1]
    barely = [f"{title} ({ratio:.2f})" for title, ratio in found.items() if ratio <= 1.1]
    said = []
    if clearly:
        said.append("Lines in which a peer is faster by more than a tenth: " + "; ".join(clearly))
    if barely:
        said.append("Lines in which a peer is faster by a tenth at most: " + "; ".join(barely))
    return ". ".join(said) + "."


def _cost_ratios(cost: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    return {
        f"{storage}: {title}": float(str(with_ratios(row).get("ours / fastest peer", "0")))
        for storage, rows in cost.items()
        for title, row in rows.items()
    }


# Under a server


def _load(results: Mapping[str, Any]) -> list[str]:
    load: dict[str, Any] = results["load"]
    a_second: dict[str, dict[str, dict[str, float]]] = load["a second"]
    parts = [
        "## Under a server",
        "Requests that one core serves in a second under gunicorn: one worker, `gthread`, of one"
        " thread, with eight clients that keep their connections. It is what the worker's CPU time"
        " comes to, the median of all turns; a Redis server's own isn't in it, as that has a core of"
        " its own. What the server and the framework cost is in all of these figures. More is better;"
        " the last column compares what a request costs, so below 1 ours is faster.",
    ]
    ratios = {}
    for framework, rows in a_second.items():
        shown: dict[str, dict[str, object]] = {}
        for title, row in rows.items():
            (peer,) = row.keys() - {"no sessions", "ours"}
            ratio = row[peer] / row["ours"]
            shown[title] = {**row, f"cost, ours / {peer}": f"{ratio:.2f}"}
            ratios[f"{framework} under gunicorn: {title}"] = ratio
        parts += [f"### {framework} under gunicorn", table(shown, "requests a second")]
    waits = {
        storage: {
            hot: f"{found['median']:.1f} / {found['99 %']:.1f} / {found['slowest']:.1f}"
            + (f", {found['refused']:,} refused" if found["refused"] else "")
            for hot, found in row.items()
        }
        for storage, row in load["slowest"].items()
    }
    return [
        *parts,
        _ahead(ratios),
        _plausible(a_second),
        "### The slowest request",
        f"How long clients wait for ours, in milliseconds: median / 99 % / the slowest of"
        f" {load['requests']:,}. A worker of four threads serves eight clients at once. One request"
        " in four changes its session, the others read it. The clients share 1, 10 or 100 sessions:"
        " the fewer, the more often two requests meet in one. This is wall time, most of it spent"
        " waiting for the requests before; the line without sessions shows what the server and the"
        " machine have in it.",
        table(waits, "sessions in use"),
    ]


_UNSURE = 0.05
"""The share by which two figures of one run may differ by chance."""


def _plausible(a_second: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Which figures can't be right: where more work seems to have been done in less time."""
    wrong = []
    for framework, rows in a_second.items():
        for storage in dict.fromkeys(title.partition(", ")[0] for title in rows):
            untouched, read, change = (
                rows[f"{storage}, {action}"] for action in ("untouched", "read", "change")
            )
            for name in untouched:
                falling = [untouched["no sessions"], untouched[name], read[name], change[name]]
                if any(
                    later > earlier * (1 + _UNSURE)
                    for earlier, later in zip(falling, falling[1:], strict=False)
                    if name != "no sessions"
                ):
                    wrong.append(f"{framework}, {storage}, {name}")
    if wrong:
        return (
            "**Measured badly, as more work can't take less time: " + "; ".join(wrong) + ". Run it"
            " again on a machine that has less else to do.**"
        )
    return (
        "In every row the figures fall as they must: without sessions, untouched, read, changed;"
        f" chance may turn two of them around by {_UNSURE:.0%} at most."
    )


def plot(results: Mapping[str, Any], target: Path) -> None:
    """CPU time per request, ours beside the peers, as bars on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = ("read, 100 B", "change, 100 B", "read, 100 KB in 50 fields", "new, 100 B")
    storages = [name for name in ("memory", "file", "redis") if name in results["cost"]]
    figure, axes = plt.subplots(1, len(storages), figsize=(8.6, 5.6), sharey=True)
    for axis, storage in zip(list(axes), storages, strict=True):
        rows = results["cost"][storage]
        titles = [title for title in chosen if title in rows]
        height = 0.16
        for index, (name, colour) in enumerate(COLOURS.items()):
            values = [max(rows[title].get(name, 0.0), 0.1) for title in titles]
            at = [row + (index - 2) * height for row in range(len(titles))]
            bars = axis.barh(at, values, height=height * 0.92, color=colour, label=name)
            axis.bar_label(
                bars, fmt=lambda value: number(round(value, 1) if value < 100 else round(value)),
                padding=2, fontsize=7.5, color="#444444",
                fontweight="bold" if name == "ours" else "normal",
            )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlim(1, 30_000)
        axis.set_title(
            {"redis": "Redis", "file": "Files", "memory": "Memory"}[storage], fontsize=11
        )
        axis.set_yticks(range(len(titles)), [title.replace(" in ", "\nin ") for title in titles])
        axis.set_xlabel("µs of CPU (log scale)", fontsize=9)
        axis.tick_params(length=0, labelsize=9)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.xaxis.grid(visible=True, color="#eeeeee")
        axis.set_axisbelow(True)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle("What a session costs per request: shorter is better", fontsize=12)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=170)
    plt.close(figure)
