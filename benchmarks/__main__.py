"""`python -m benchmarks [NAME ...]`: runs all benchmarks, or those that are named, and prints a table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

# Absolute: anyio's processes load this file by its path, and wait for ever where that fails.
from benchmarks import processes
from benchmarks.calls import bytes_queued, latency, logging_off, throughput
from benchmarks.measure import machine, table
from benchmarks.metrics import counting
from benchmarks.stops import injection, last_end, waiters, waiters_busy
from benchmarks.supervision import workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Row

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "latency": latency,
    "throughput": throughput,
    "bytes": bytes_queued,
    "logging": logging_off,
    "metrics": counting,
    "waiters": waiters,
    "waiters-busy": waiters_busy,
    "last-end": last_end,
    "injection": injection,
    "workers": workers,
    "process-latency": processes.latency,
    "process-throughput": processes.throughput,
    "process-echo": processes.echo,
    "process-kill": processes.kill,
    "process-start": processes.start,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; the benchmarks are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    print(machine(), end="\n\n", flush=True)
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name]()
    print(table(rows))
    missed = sum(row.missed for row in rows)
    print(f"\n{missed} targets missed" if missed else "\nall targets met")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
