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
    "cryptography",
)  # fmt: skip
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
        f" {results['repetitions']} turns. Times are CPU time of the client and of the server (Redis,"
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
        _slower(cost),
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
    parts += ["## Versions", table(versions(), "package"), f"{results['machine']}."]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _joined(wire: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, object]]:
    return {
        action: {
            name: " / ".join(f"{value:,}" for value in row.values()) for name, row in rows.items()
        }
        for action, rows in wire.items()
    }


def _slower(cost: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The lines in which a peer is clearly faster, by name: they are the work that is left."""
    found = [
        f"{storage}: {title} ({ratio})"
        for storage, rows in cost.items()
        for title, row in rows.items()
        if float(str(ratio := with_ratios(row).get("ours / fastest peer", "0"))) > 1.1
    ]
    if not found:
        return "In no line is a peer faster by more than a tenth."
    return "Lines in which a peer is faster by more than a tenth: " + "; ".join(found) + "."


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
