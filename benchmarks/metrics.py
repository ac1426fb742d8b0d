"""What metrics cost a call: one that is counted, and one whose transitions somebody reads, beside one of neither."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from supervisor import Supervisor
from supervisor.metrics import register

from .calls import _in_sequence
from .measure import SILENT, Row, in_turns, pinned
from .peers import noop

__all__ = ["counting"]


def counting() -> list[Row]:
    """One call at a time, on one core."""
    with pinned():
        return asyncio.run(_counting())


async def _counting() -> list[Row]:
    supervisors = [Supervisor(name, logger=SILENT, max_threads=1) for name in ("plain", "counted", "watched")]
    plain, counted, watched = supervisors
    register(counted, registry=CollectorRegistry())
    transitions = watched.transitions(buffer=1)
    async with plain, counted, watched, transitions:
        took = await in_turns(
            {
                "plain": _in_sequence(lambda: plain.run(noop)),
                "counted": _in_sequence(lambda: counted.run(noop)),
                "watched": _in_sequence(lambda: watched.run(noop)),
            },
            rounds=15,
        )
    return [
        Row("one sup.run, counted for metrics", "µs", took["counted"], "not counted", took["plain"], at_most=1.15),
        Row("one sup.run, its transitions read", "µs", took["watched"], "not counted", took["plain"]),
    ]
