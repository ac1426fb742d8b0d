"""What metrics cost a call: one that is counted, and one whose transitions somebody reads, beside one of neither."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from supervisor import Supervisor
from supervisor.metrics import register

from .calls import _in_sequence
from .measure import SILENT, Goal, Table, in_turns, pinned, sized
from .peers import FLOOR, noop, peers

__all__ = ["counting"]


def counting() -> list[Table]:
    """One call at a time: plain, counted for metrics, and with somebody who reads its transitions."""
    with pinned():
        took = asyncio.run(_counting())
    column = "each call"
    return [
        Table(
            "One call at a time, counted or watched",
            "µs",
            [column],
            {name: [value] for name, value in took.items()},
            beside="plain",
            goals=[Goal("counted", column, 1.15, beside_row="plain")],
            pinned=True,
        )
    ]


async def _counting() -> dict[str, float]:
    supervisors = [Supervisor(name, logger=SILENT, max_threads=1) for name in ("plain", "counted", "watched")]
    plain, counted, watched = supervisors
    register(counted, registry=CollectorRegistry())
    transitions = watched.transitions(buffer=1)
    with peers(1) as calls:
        async with plain, counted, watched, transitions:
            measures = {
                FLOOR: calls[FLOOR],
                "plain": lambda: plain.run(noop),
                "counted": lambda: counted.run(noop),
                "watched": lambda: watched.run(noop),
            }
            return await in_turns({name: _in_sequence(call) for name, call in measures.items()}, sized(9, 1))
