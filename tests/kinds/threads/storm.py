"""The storm: two injectors aim at whatever run is current, in bursts and
pauses, while a worker carries out runs.

Run in a process of its own, so that an exception which escapes cannot hide in a test runner:
    python -m tests.kinds.threads.storm RUNS SWITCH_INTERVAL
Its last line is a JSON object: what happened how often, and under "bad" what must never happen.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

from supervisor import StopInjected

from ... import inside
from ...inside import MISSING, Gate, Shield

runs = 0
seen: Counter[str] = Counter()
bad: Counter[str] = Counter()
current: list[Gate | None] = [None]
progress = 0
over = False


def spin(turns: int) -> None:
    for _ in range(turns):
        pass


def plain(gate: Gate, body: list[int], turns: int) -> int:
    spin(turns)
    return 1


def builtin(gate: Gate, body: list[int], turns: int) -> int:
    return sum(range(turns))


def shielded(gate: Gate, body: list[int], turns: int) -> int:
    """Enters and leaves shields, nested ones too, and swallows what it is hit by."""
    while True:
        try:
            for _ in range(5):
                spin(turns // 20)
                with Shield(gate):
                    body.append(1)
                    spin(turns // 10)
                    with Shield(gate):
                        spin(turns // 10)
                    body.append(-1)
                if inside.is_closed(gate):
                    bad["the gate stays closed after a shield"] += 1
                seen["shields"] += 1
                spin(turns // 20)
            return 1
        except StopInjected:
            if inside.is_closed(gate):
                bad["the gate is closed in a handler"] += 1
            seen["swallowed"] += 1
            if len(body) > 400:
                return 2


def work() -> None:
    global progress
    choose = random.Random(5)
    for number in range(runs):
        progress = number
        mine = type(f"Injected{number}", (StopInjected,), {})  # a class of its own shows a foreign hit
        gate, body = Gate(mine), list[int]()
        function = choose.choice([plain, builtin, shielded, shielded])
        current[0] = gate
        value, error = gate.run(function, (gate, body, choose.randrange(3000)))
        try:
            spin(200)
            str(number)
            spin(100)
        except BaseException:
            bad["an exception escaped into the pool"] += 1
        if error is None:
            seen["values"] += 1
        elif type(error) is mine:
            seen["injected"] += 1
        elif isinstance(error, StopInjected):
            bad["a foreign exception hit"] += 1
        else:
            bad[f"an unknown error: {error!r}"] += 1
        if (value is MISSING) != (error is not None):
            bad["neither a value nor an error, or both"] += 1
        if sum(body):
            bad["a shield's body was interrupted"] += 1
        if gate.depth:
            bad["a shield's depth leaked"] += 1
    progress = runs


def inject() -> None:
    pause = random.Random()
    while not over:
        gate = current[0]
        if gate is not None:
            seen[gate.inject()] += 1
        if pause.random() < 0.5:
            time.sleep(pause.random() * 1e-4)  # lets the worker be hit; without a pause it is mostly deferred
        else:
            spin(pause.randrange(400))


def main() -> None:
    global over, runs
    runs, switch_interval = int(sys.argv[1]), float(sys.argv[2])
    sys.setswitchinterval(switch_interval)
    threading.excepthook = lambda args: None
    sys.unraisablehook = lambda args: None
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for _ in range(2):
        threading.Thread(target=inject, daemon=True).start()
    last, since = -1, time.monotonic()
    while worker.is_alive():
        worker.join(0.2)
        if progress != last:
            last, since = progress, time.monotonic()
        elif time.monotonic() - since > 20:
            bad[f"hangs in run {progress}"] += 1
            break
    if progress != runs and not bad:
        bad[f"the worker died in run {progress}"] += 1
    over = True
    report: dict[str, Any] = {"python": sys.version.split()[0], "runs": runs, "seen": seen, "bad": bad}
    print(json.dumps(report), flush=True)
    os._exit(bool(bad))


if __name__ == "__main__":
    main()
