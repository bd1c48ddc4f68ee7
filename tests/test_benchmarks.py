"""The benchmarks compare like with like: every contender does the work that it is timed for.

Only what is right is tested here, never what is fast.
"""

from __future__ import annotations

import contextlib
import gc
from json import dumps

import pytest

import databases
from benchmarks import contenders as c
from benchmarks import cost, measure, races, report, scale_simulation, server, sql, wire
from benchmarks.contenders import Maker
from benchmarks.work import payload
from own_process import in_a_process_of_its_own

pytestmark = pytest.mark.slow

NEEDS = {
    "beaker": "beaker",
    "flask_session": "flask_session",
    "flask_cookie": "flask",
    "django_sessions": "django",
}


@pytest.fixture(scope="module", params=["memory", "file", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize(
    "maker",
    [c.ours, c.minimum, c.beaker, c.flask_session, c.django_sessions],
    ids=lambda maker: maker.__name__,
)
def test_every_contender_really_reads_changes_and_ends_sessions(maker: Maker, storage: str) -> None:
    module = NEEDS.get(maker.__name__)
    if module is not None:
        pytest.importorskip(module, reason=f"{module} is in the dependency group bench")
    if storage == "redis":
        pytest.importorskip("redis", reason="the benchmarks use redis-py")
    if storage == "redis" and server.binary() is None:
        pytest.skip("there is no program for a Redis server")
    if maker is c.django_sessions:
        in_a_process_of_its_own(check)(maker, storage)
    else:
        check(maker, storage)


def check(maker: Maker, storage: str) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(server.started()) if storage == "redis" else None
        with cost.place(redis, payload(400, 2)) as place:
            cost.check(maker(place, storage))
    if storage == "redis":
        gc.collect()  # connections that contenders leave open are theirs, and not a later test's


@pytest.mark.filterwarnings("ignore")  # what peers warn of is theirs
@pytest.mark.parametrize("storage", sql.DATABASES)
def test_so_does_every_contender_in_a_sql_database(storage: str) -> None:
    for module in ("flask_session", "flask_sqlalchemy", "django"):
        pytest.importorskip(module, reason=f"{module} is in the dependency group bench")
    if storage == "postgresql" and databases.PostgreSQL.programs() is None:
        pytest.skip(databases.MISSING[storage])
    in_a_process_of_its_own(check_sql)(storage)


def check_sql(storage: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sql.started()) if storage == "postgresql" else None
        place = stack.enter_context(cost.place(None, payload(400, 2)))
        for contender in sql.field_of(place, storage, server):
            cost.check(contender)


def test_a_contender_that_forgets_is_found_out() -> None:
    with cost.place(None, payload(100, 1)) as place:
        contender = c.minimum(place, "memory")
        contender.parts["rows"].delete = lambda sid: None

        with pytest.raises(AssertionError, match="the old ID still works"):
            cost.check(contender)


def test_a_line_of_the_table_names_all_its_contenders() -> None:
    with cost.place(None, payload(100, 1)) as place:
        field = [c.ours(place, "memory"), c.minimum(place, "memory")]
        tasks = [cost.task(contender, cost.Cell("read", "memory")) for contender in field]

        found = measure.medians(tasks, repetitions=1, turn=0.0001, server=None)

    assert set(found) == {"ours", "minimum"}


def test_ours_loses_no_update_and_the_minimum_shows_that_the_race_is_one() -> None:
    # The minimum's race needs luck with the scheduler, so it isn't asked for a loss here.
    with cost.place(None, payload(100, 1)) as place:
        ours = c.ours(place, "memory")
        cookie = cost.begin(ours)
        races._add_by_threads(ours, cookie, "t", 4, 5)

        assert races._lost(ours, cookie, 20) == "0%"


def test_a_logout_ends_ours_for_good_and_the_minimum_comes_back() -> None:
    with cost.place(None, payload(100, 1)) as place:
        assert not races._comes_back(c.ours(place, "memory"))
        assert races._comes_back(c.minimum(place, "memory"))


def test_commands_on_the_wire_are_counted() -> None:
    two = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"

    assert wire.commands(two) == 2


def test_statements_on_the_wire_are_counted() -> None:
    query = b"Q\0\0\0\x0dSELECT 1\0"
    prepared = b"B\0\0\0\4E\0\0\0\x09\0\0\0\0\0S\0\0\0\4"

    assert sql.statements(query + prepared) == 2


def test_payloads_have_the_size_and_the_fields_that_they_are_named_for() -> None:
    assert 90_000 < len(dumps(payload(100_000, 50))) <= 100_000
    assert len(payload(100_000, 50)) == 50


def test_tables_are_markdown() -> None:
    text = report.table({"read": {"ours": 1.25, "peer": 1200}}, "request")

    assert text.splitlines()[0] == "| request | ours |  peer |"
    assert text.splitlines()[2] == "| read    |  1.2 | 1,200 |"


def test_more_sessions_take_more_nodes() -> None:
    small = scale_simulation.plan(sessions=1_000_000)
    large = scale_simulation.plan(sessions=100_000_000)

    assert small.nodes < large.nodes
    assert large.bytes_per_node <= scale_simulation.USABLE * scale_simulation.NODE_BYTES


def test_a_failover_leaves_the_sessions_of_other_nodes_alone() -> None:
    outcome = scale_simulation.failover(
        scale_simulation.plan(sessions=100_000_000), sampled=20_000, seed=1
    )

    assert outcome.unreachable_share == pytest.approx(1 / outcome.nodes, rel=0.2)
    assert outcome.refused < outcome.requests
