"""Short runs of every target, by hypothesis; `make fuzz` runs long ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import effort
from fuzz.targets import TARGETS
from wsgi_sessions.notes import Notes, dump_notes
from wsgi_sessions.record import Record
from wsgi_sessions.signing import new_id
from wsgi_sessions.stores.packing import pack

_ID = "A" * 43
SEEDS: dict[str, list[bytes]] = {
    "cookie_header": [b"s=1; t=2", b's="a;s=b"', b"=s=1", b"s=;" * 9],
    "request": [f"session={_ID}.{_ID}".encode(), b"session=x; session=y"],
    "token": [f"{_ID}.{_ID}".encode(), b".", f"{new_id()}.".encode()],
    "record": [pack(Record({"a": b"1"}, b"notes", 1.0, 2.0, 1, "bob"))],
    "index": [bytes(64)],
    "notes": [dump_notes(Notes(1.0, 1.0, 1.0)), dump_notes(Notes(1.0, 1.0, 1.0, idle=5.0))],
    "forward": [b"fw1" + bytes(24) + b"a" * 64],
    "codec": [b"null", json.dumps({"a": [1, 2.5, "x"]}).encode(), b'{"$":1}', b"[" * 2_000],
    "proxies": [b"203.0.113.9, 10.0.0.1\nhttps\na.example:1\n443\n/app\n10.0.0.1",
                b'for="[::1]:80";proto=https;host="a;b", for=unknown'],
    "log_text": ["\x1b[31m\u202e".encode(), b"\xff" * 300],
}  # fmt: skip


def mutations(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, and seeds with pieces cut out, put in and said again."""
    seed = st.sampled_from(seeds)
    cut = st.integers(0, 200)
    return st.one_of(
        seed,
        st.binary(max_size=300),
        st.builds(lambda s, at, put: s[:at] + put + s[at:], seed, cut, st.binary(max_size=8)),
        st.builds(lambda s, at, to: s[:at] + s[to:], seed, cut, cut),
        st.builds(lambda s, at, to, times: s + s[at:to] * times, seed, cut, cut, cut),
    )


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_survived(name: str) -> None:
    target = TARGETS[name]

    @effort(200)
    @given(mutations(SEEDS[name]))
    def run(data: bytes) -> None:
        target(data)

    run()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("piece", [b"\x00", b"[", b'{"a":', b'"', b"\\", b";", b"s=", b",", b"9"])
def test_a_megabyte_of_anything_is_survived(name: str, piece: bytes) -> None:
    # With more than linear work, this would not end within a test run.
    TARGETS[name](piece * (1_000_000 // len(piece)))
