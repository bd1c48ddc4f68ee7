"""What a client, a proxy or whoever writes the store sends costs linear work and bounded memory.

Work is counted, not timed: the lines of ours that run, and the most memory that is held. What runs
in C alone (patterns, JSON) shows in the megabyte tests, which would not end in a lifetime.
"""

from __future__ import annotations

import gc
import struct
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any
from zlib import crc32

import pytest

from acts import read
from fuzz.targets import TARGETS
from wsgi import SECRET, Site, call, environ
from wsgi_sessions.client_side import ClientSeal
from wsgi_sessions.cookie import find_candidates
from wsgi_sessions.crypto.signing import TokenSigner
from wsgi_sessions.data.notes import CorruptNotes, Notes, dump_notes, load_notes
from wsgi_sessions.events import printable
from wsgi_sessions.proxies import TrustedProxies, resolve_client
from wsgi_sessions.stores.file import formats
from wsgi_sessions.stores.file.directory import Damaged
from wsgi_sessions.stores.packing import unpack

KB = 1_000
SIGNER = TokenSigner((SECRET.encode(),), "cookie.s")
SEAL = ClientSeal((SECRET.encode(),), encrypt=False)
SITE = Site(on_event=())
SITE.routes["/"] = read
ONE = TrustedProxies(hops=1, host=1, port=1, prefix=1)
TEN = TrustedProxies(hops=10, exact=True)
NETWORKS = TrustedProxies(networks=("10.0.0.0/8",))
FORWARDED = TrustedProxies(hops=3, host=1, header="forwarded")


def lines(work: Callable[[], object]) -> int:
    """How many lines of ours this runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if not frame.f_globals.get("__name__", "").startswith("wsgi_sessions"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    # What it finds, other tests have left: generators of ours, say, which have lines to run yet.
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def memory(work: Callable[[], object]) -> int:
    """How many bytes this holds at most, at one time."""
    work()  # what is made once isn't counted
    # The least of two: in a worker, another thread reads now and then which tests to run next.
    return min(_memory_once(work), _memory_once(work))


def _memory_once(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def proxied(trusted: TrustedProxies) -> Callable[[str], object]:
    def resolve(text: str) -> object:
        made = environ()
        for name in ("FOR", "PROTO", "HOST", "PORT", "PREFIX"):
            made[f"HTTP_X_FORWARDED_{name}"] = text
        made["HTTP_FORWARDED"] = text
        made["REMOTE_ADDR"] = "10.0.0.1"
        return resolve_client(made, trusted)

    return resolve


BOUNDED: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "cookie header": (
        lambda text: find_candidates(text, "s"),
        ["a=;", "s=", "s;", ";", "s=x;", "s ", ",s=x", 's="x",'],
    ),
    "request": (
        lambda text: call(SITE.middleware, environ(cookie=text), check=False),
        ["a=;", "session=", "session=x;", f"session={'A' * 43}.{'A' * 43};", '"', "\xff"],
    ),
    "token": (SIGNER.verify, ["A", "A.", ".", "é", "="]),
    "client-side token": (lambda text: SEAL.open(text, "cookie.s"), ["s1.A", "A", "e1.", "."]),
    "log": (printable, ["x", "\x1b", "\u202e"]),
    "one proxy": (proxied(ONE), [",", "1,", "a", " ", "[", ":", "/a", "%2e", '"', ", "]),
    "ten proxies": (proxied(TEN), [",", "1,", "10.0.0.1,", " ,", "[::1],", "a"]),
    "networks": (proxied(NETWORKS), [",", "1.1.1.1,", "x", "10.0.0.256,"]),
    "forwarded": (
        proxied(FORWARDED),
        ['"', "\\", '\\"', "for=1;", "for=1,", ";", ",", '",', "=", '="a', 'a="\\",'],
    ),
}


@pytest.mark.parametrize(
    ("name", "piece"), [(name, piece) for name, (_, pieces) in BOUNDED.items() for piece in pieces]
)
def test_what_a_client_sends_is_bounded_work_however_long(name: str, piece: str) -> None:
    """CVE-2025-58186, CVE-2024-7592, CVE-2022-4899: quadratic or unlimited reading of headers."""
    work, _ = BOUNDED[name]
    short, long, longer = (piece * (size // len(piece)) for size in (20 * KB, 200 * KB, 2_000 * KB))

    at_first = lines(lambda: work(short))
    assert lines(lambda: work(long)) <= at_first + 20
    assert lines(lambda: work(longer)) <= at_first + 20
    assert at_first < 40_000
    assert memory(lambda: work(longer)) < len(longer) + 1_000 * KB


@pytest.mark.parametrize("hops", [1, 2, 5, 10])
def test_the_work_for_proxies_grows_with_their_number_alone(hops: int) -> None:
    trusted = TrustedProxies(hops=hops)
    entries = ["10.0.0.1"] * hops

    few = lines(lambda: proxied(trusted)(", ".join(entries)))
    many = lines(lambda: proxied(trusted)(", ".join(["10.0.0.1"] * 50_000 + entries)))

    assert many <= few + 20


def test_addresses_all_trusted_cost_linear_work_at_most() -> None:
    resolve = proxied(NETWORKS)
    hundred, thousand = (lines(lambda n=n: resolve("10.0.0.1," * n)) for n in (100, 1_000))  # type: ignore[misc] # bound here

    assert thousand <= 11 * hundred


def survived(name: str) -> Callable[[bytes], object]:
    """A target of the fuzzer, which raises only where something is wrong with us."""
    return TARGETS[name]


def head(size: int) -> bytes:
    return dump_notes(Notes(1.0, 1.0, 1.0)) + b'{"label":{' + b'"a":"b",' * (size // 8)


LINEAR: dict[str, tuple[str, list[bytes]]] = {
    "record": ("record", [b"\0", b"\xff", b"\1", b"WSF2"]),
    "owner_list": ("owner_list", [b"\0", b"\xff", b"\1"]),
    "notes": ("notes", [b"\0", b"[", b'{"label":', b"1"]),
    "codec": ("codec", [b"[", b"[],", b'{"a":', b'"', b"\\", b"\\u", b"9", b"\xff", b'{"~tuple":[',
                        b"-", b"1e", b" "]),
    "markup": ("markup", [b'{"~~markup":[', b"[", b'"~markup"']),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "piece"), [(name, piece) for name, (_, pieces) in LINEAR.items() for piece in pieces]
)
def test_what_is_stored_is_read_with_linear_work_and_memory(name: str, piece: bytes) -> None:
    work = survived(LINEAR[name][0])
    short, long = (piece * (size // len(piece)) for size in (20 * KB, 200 * KB))

    assert lines(lambda: work(long)) <= 12 * lines(lambda: work(short)) + 20
    assert memory(lambda: work(long)) <= 40 * len(long)


CLAIMS = [0, 1, 2**16, 2**31, 2**32 - 1]


@pytest.mark.parametrize("fields", CLAIMS)
@pytest.mark.parametrize("owner", CLAIMS)
@pytest.mark.parametrize("notes", CLAIMS)
def test_a_record_that_claims_to_be_large_takes_no_memory(
    fields: int, owner: int, notes: int
) -> None:
    packed = struct.pack("<QQIII", 1, 0, fields, owner, notes) + struct.pack(
        "<II", 2**31, 2**32 - 1
    )
    times = struct.pack("<dd", 1.0, 2.0)
    content = b"".join((formats._MAGIC, formats._CRC.pack(crc32(packed)), times,
                        formats._CRC.pack(crc32(times)), packed))  # fmt: skip

    def work() -> None:
        with pytest.raises(ValueError, match=r"cut short|add up|more fields|codec"):
            unpack(packed, 0, 1.0, 2.0)
        with pytest.raises(Damaged):
            formats.decode(content)

    assert memory(work) < 100 * KB


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_notes_of_any_size_are_read_or_refused(size: int) -> None:
    raw = head(size)

    def work() -> None:
        with pytest.raises(CorruptNotes):
            load_notes(raw)

    assert lines(work) < 100
    assert memory(work) < 40 * len(raw) + 100 * KB
