"""How long the package takes to import, in an interpreter that has just started."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from .measure import Table, in_turns, sized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["imports"]

FLOOR = "floor: `python -c pass`"
CODES = {
    FLOOR: "pass",
    "`import asyncio`": "import asyncio",
    "`import anyio, structlog`, which it needs": "import anyio, structlog",
    "**`import supervisor`**": "import supervisor",
    "... and `Supervisor`": "from supervisor import Supervisor",
}


def imports() -> list[Table]:
    """The start and the end of an interpreter that has imported it."""
    took = asyncio.run(in_turns({name: _interpreter(code) for name, code in CODES.items()}, sized(15, 1)))
    return [
        Table(
            "An interpreter that imports",
            "ms",
            ["start to end"],
            {name: [value] for name, value in took.items()},
            FLOOR,
        )
    ]


def _interpreter(code: str) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        began_at = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (perf_counter() - began_at) * 1e3

    return measure
