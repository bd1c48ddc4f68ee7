"""A hundred million sessions on a Redis Cluster: how many nodes, and what a failover does.

What one session and one request cost is measured (docs/scaling.md says how: `measure`); the rest
is arithmetic and a simulation: sessions are drawn, placed by Redis Cluster's own hash slots, asked
for at random, and one primary dies while they are.

    python -m benchmarks.scale_simulation            # with the costs written down below
    python -m benchmarks.scale_simulation --measure  # with those of this machine
"""

from __future__ import annotations

# ruff: noqa: ISC004 # sentences go on over several lines
import argparse
import hashlib
import math
import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

SLOTS = 16_384
NODE_BYTES = 16 * 1024**3
"""Memory of one node."""
USABLE = 0.6
"""The share of it that may hold sessions: the rest is for copy-on-write while a replica is being
made, for buffers, and for growth."""
NODE_CPU = 0.6
"""The share of its one command thread that a node may be busy at the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured on a single node, with sessions of 200 bytes with an owner."""

    session_bytes: float = 1_099.0
    """Memory of one session in Redis, its share of its owner's list included."""
    read_us: float = 15.0
    """CPU of the server for one read."""
    write_us: float = 40.0
    """CPU of the server for one change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How much the sessions are used."""

    active_share: float = 0.10
    """Of all sessions, those that are in use at the peak."""
    request_every: float = 30.0
    """Seconds between two requests of one that is in use."""
    writes: float = 0.2
    """Of all requests, those that write: changes, and touches once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What it takes."""

    sessions: int
    requests_per_second: float
    nodes_for_memory: int
    nodes_for_cpu: int
    nodes: int
    """Primaries: at least 3, as a cluster needs them for a majority."""
    bytes_per_node: float
    busy: float
    """The share of its command thread that a node is busy at the peak."""


COSTS = Costs()
MIX = Mix()


def plan(*, sessions: int, costs: Costs = COSTS, mix: Mix = MIX) -> Plan:
    """How many primaries so many sessions take."""
    rate = sessions * mix.active_share / mix.request_every
    # Each request reads; those that write ask once more.
    busy = rate * (costs.read_us + mix.writes * costs.write_us) / 1e6
    for_memory = math.ceil(sessions * costs.session_bytes / (USABLE * NODE_BYTES))
    for_cpu = math.ceil(busy / NODE_CPU)
    nodes = max(3, for_memory, for_cpu)
    return Plan(
        sessions=sessions,
        requests_per_second=rate,
        nodes_for_memory=for_memory,
        nodes_for_cpu=for_cpu,
        nodes=nodes,
        bytes_per_node=sessions * costs.session_bytes / nodes,
        busy=busy / nodes,
    )


def slot_of(key: bytes) -> int:
    """The hash slot of a key without braces: CRC-16/XMODEM, as Redis Cluster has it."""
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc % SLOTS


def node_of(slot: int, nodes: int) -> int:
    """The primary that has this slot, where slots are dealt out in equal runs."""
    return slot * nodes // SLOTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """What the death of one primary does."""

    nodes: int
    unreachable_share: float
    """Of all sessions, those whose node is gone until its replica has taken over."""
    seconds: float
    requests: int
    """All requests in that time."""
    refused: int
    """Those that get a 503: the store can't answer, and that is never taken for "no session"."""
    lost_writes: float
    """Writes that were acknowledged, but hadn't reached the replica."""
    fullest: float
    """Sessions on the fullest node, relative to the mean."""


def failover(
    planned: Plan,
    *,
    sampled: int = 200_000,
    seed: int = 1,
    mix: Mix = MIX,
    node_timeout: float = 5.0,
    election: float = 1.5,
    replica_lag: float = 0.01,
) -> Failover:
    """Place a sample of the sessions, and let one primary die at the peak.

    Args:
        planned: the cluster.
        sampled: how many sessions stand for all.
        seed: of the random numbers, so that a run can be repeated.
        mix: how much the sessions are used.
        node_timeout: seconds after which the others take a silent node for dead
            (``cluster-node-timeout``).
        election: seconds until the replica has been elected and clients have found it.
        replica_lag: seconds by which a replica is behind its primary.
    """
    chance = random.Random(seed)
    held = [0] * planned.nodes
    for _ in range(sampled):
        key = hashlib.sha256(chance.randbytes(32)).hexdigest().encode()
        held[node_of(slot_of(b"session:" + key), planned.nodes)] += 1
    dead = chance.randrange(planned.nodes)
    share = held[dead] / sampled
    seconds = node_timeout + election
    requests = round(planned.requests_per_second * seconds)
    return Failover(
        nodes=planned.nodes,
        unreachable_share=share,
        seconds=seconds,
        requests=requests,
        refused=round(requests * share),
        lost_writes=planned.requests_per_second * share * mix.writes * replica_lag,
        fullest=max(held) / statistics.mean(held),
    )


def measure(sessions: int = 20_000) -> Costs:
    """What one session and one request cost on this machine's Redis server."""
    from . import contenders as c
    from . import space
    from .cost import begin, place
    from .server import started
    from .work import payload, request, send

    with started() as server:
        if server is None:
            raise SystemExit("there is no program for a Redis server")
        with place(server, payload(space.SIZE, 1)) as where:
            contender = c.ours(where, "redis")
            before = server.client.info("memory")["used_memory"]
            space.fill(contender, sessions, expires_in=86_400.0, owner="user-")
            held = server.client.info("memory")["used_memory"] - before
            costs = {}
            for action in ("read", "change"):
                environ = request(action, begin(contender))
                send(contender.app, environ)
                start = server.cpu()
                for _ in range(3000):
                    send(contender.app, environ)
                costs[action] = (server.cpu() - start) / 3000 * 1e6
    return Costs(
        session_bytes=held / sessions,
        read_us=costs["read"],
        write_us=max(1.0, costs["change"] - costs["read"]),
    )


def lines(costs: Costs, sizes: Iterable[int]) -> list[str]:
    """The result in words."""
    out = [
        f"one session: {costs.session_bytes:,.0f} bytes; one read: {costs.read_us:.1f} µs,"
        f" one write: {costs.write_us:.1f} µs of the server's CPU",
        f"one node of {NODE_BYTES / 1024**3:.0f} GiB holds"
        f" {USABLE * NODE_BYTES / costs.session_bytes / 1e6:,.1f} million sessions",
        f"one node at {NODE_CPU:.0%}: {NODE_CPU * 1e6 / costs.read_us:,.0f} reads, or"
        f" {NODE_CPU * 1e6 / (costs.read_us + costs.write_us):,.0f} changes,"
        f" or {NODE_CPU * 1e6 / (costs.read_us + MIX.writes * costs.write_us):,.0f} requests of"
        " the mix per second",
    ]
    for sessions in sizes:
        planned = plan(sessions=sessions, costs=costs)
        out.append(
            f"{sessions:,} sessions, {planned.requests_per_second:,.0f} requests/s: {planned.nodes}"
            f" primaries ({planned.nodes_for_memory} for memory, {planned.nodes_for_cpu} for CPU),"
            f" {planned.bytes_per_node / 1024**3:.1f} GiB each, {planned.busy:.0%} busy"
        )
        lost = failover(planned)
        out.append(
            f"  one dies: {lost.unreachable_share:.1%} of the sessions answer 503 for"
            f" {lost.seconds:.1f} s, {lost.refused:,} of {lost.requests:,} requests;"
            f" about {lost.lost_writes:,.0f} acknowledged writes are lost;"
            f" the fullest node has {lost.fullest:.1%} of the mean"
        )
    return out


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_simulation")
    parser.add_argument("--measure", action="store_true", help="measure the costs here first")
    arguments = parser.parse_args()
    costs = measure() if arguments.measure else COSTS
    print("\n".join(lines(costs, (1_000_000, 10_000_000, 100_000_000))))


if __name__ == "__main__":
    main()
