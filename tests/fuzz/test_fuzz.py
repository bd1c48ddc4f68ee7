"""Short runs of every target, by hypothesis; `make fuzz` runs long ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import effort
from fuzz.targets import SEEDS, TARGETS


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


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, id=f"{name}-{number}")  # some seeds are drawn anew in each process
        for name, seeds in SEEDS.items()
        for number, seed in enumerate(seeds)
    ],
)
def test_what_was_found_once_is_survived(name: str, seed: bytes) -> None:
    TARGETS[name](seed)


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
