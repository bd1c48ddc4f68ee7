"""Runs the model checker: what was found before, and some random scenarios in every run.

``WSGI_SESSIONS_MODEL_SECONDS`` gives each store so many seconds, with seeds from
``WSGI_SESSIONS_MODEL_FIRST`` on, or fresh ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import islice

import pytest

import servers

from .checker import fresh_seed, look
from .known import ALSO, KNOWN
from .runner import run
from .scenario import Scenario
from .stores import KINDS, Stores

pytestmark = pytest.mark.untraced
SECONDS = float(os.environ.get("WSGI_SESSIONS_MODEL_SECONDS", "0"))
FIRST = os.environ.get("WSGI_SESSIONS_MODEL_FIRST")
PROVEN = {"memory": 5000, "client": 12000, "encrypted": 2400, "file": 4000, "redis": 2000}
"""So many seeds from 1 on were seen to find nothing; a faster machine doesn't go on to others."""
SEEDS = {"memory": 60, "client": 40, "encrypted": 15, "file": 5, "redis": 5}


@pytest.fixture(scope="module")
def made() -> Iterator[Stores]:
    with Stores() as stores:
        yield stores


@pytest.fixture(autouse=True)
def _without_the_log(caplog: pytest.LogCaptureFixture) -> None:
    # Thousands of sessions begin and end here.
    caplog.set_level(logging.CRITICAL, logger="wsgi_sessions")


def _skip_without_redis(store: str) -> None:
    if store == "redis" and not servers.binaries() and servers.named_by_environment() is None:
        pytest.skip("there is no redis-server or valkey-server")


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=f"{name}-{scenario.store}-{number}")
        for name, scenarios in {**KNOWN, **ALSO}.items()
        for number, scenario in enumerate(scenarios)
    ],
)
def test_what_was_reported_once_is_right(scenario: Scenario, made: Stores) -> None:
    _skip_without_redis(scenario.store)

    assert run(scenario, made) is None


@pytest.mark.parametrize("store", KINDS)
def test_no_random_scenario_breaks_a_promise(store: str, made: Stores) -> None:
    _skip_without_redis(store)
    seconds, first = (SECONDS, int(FIRST or fresh_seed())) if SECONDS else (None, 0)

    found_by_seed = look(
        store, made, seeds=None if SECONDS else SEEDS[store], seconds=seconds, first=first
    )
    for found in islice(found_by_seed, PROVEN[store] if FIRST else None):
        assert found is None, (
            f"{found}\nagain: PYTHONPATH=src:tests python -m model --store {store}"
            f" --seed {found.seed}"
        )
