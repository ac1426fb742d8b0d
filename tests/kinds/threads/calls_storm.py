"""The storm of system calls: signals end those of workers that are injected, while other threads are in the same.

Threads of workers end and begin all the time, so that a signal that comes too late would find none. Run as a process of
its own, on Python 3.15 or later:
    python -m tests.kinds.threads.calls_storm RUNS SWITCH_INTERVAL
Its last line is a JSON object: what happened how often, and under "bad" what must never happen.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter

from supervisor import StopInjected

from ...inside import MISSING, Gate, WakeSignal, leaving_thread, thread_of_ours

OTHERS = 2
RUNS_A_THREAD = 3
PATIENCE = 20.0

seen: Counter[str] = Counter()
bad: Counter[str] = Counter()
runs = progress = 0
current: list[Gate | None] = [None]
over = False


def calls(ours: socket.socket) -> int:
    """Short sleeps, and reads of a socket to which bytes come now and then."""
    for _ in range(8):
        what = random.random()  # noqa: S311
        if what < 0.4:
            time.sleep(what * 1e-3)
        elif what < 0.7:
            ours.recv(1)
        else:
            select.select([ours], [], [], what * 1e-3)
    return 1


def work(ours: socket.socket) -> None:
    global progress
    thread_of_ours()
    for _ in range(RUNS_A_THREAD):
        mine = type(f"Injected{progress}", (StopInjected,), {})  # a class of its own shows a foreign hit
        gate = Gate(mine)
        current[0] = gate
        value, error = gate.run(calls, (ours,))
        try:
            time.sleep(0)
            str(progress)
        except BaseException as escaped:
            bad[f"an exception escaped: {escaped!r}"] += 1
        if type(error) is mine:
            seen["injected"] += 1
        elif error is not None or value is MISSING:
            bad[f"another error: {error!r}"] += 1
        else:
            seen["returned"] += 1
        progress += 1
    leaving_thread()


def stand_by(ours: socket.socket) -> None:
    try:
        while not over:
            calls(ours)
            seen["calls of others"] += 1
    except BaseException as error:
        bad[f"others were struck: {error!r}"] += 1


def send(theirs: list[socket.socket]) -> None:
    while not over:
        for each in theirs:
            each.send(b".")
        time.sleep(random.random() * 4e-4)  # noqa: S311


def inject(wake: WakeSignal) -> None:
    pause = random.Random()
    while not over:
        gate = current[0]
        if gate is not None:
            seen[gate.inject(wake.send)] += 1
        if pause.random() < 0.7:
            time.sleep(pause.random() * 3e-4)


def main() -> None:
    global over, runs
    runs = int(sys.argv[1])
    sys.setswitchinterval(float(sys.argv[2]))
    threading.excepthook = lambda args: bad.update([f"a thread died: {args.exc_value!r}"])
    wake = WakeSignal(signal.SIGURG, lambda reason: bad.update([reason]))
    wake.prepare()
    pairs = [socket.socketpair() for _ in range(OTHERS + 1)]
    for ours, _ in pairs[1:]:
        threading.Thread(target=stand_by, args=(ours,), daemon=True).start()
    threading.Thread(target=send, args=([theirs for _, theirs in pairs],), daemon=True).start()
    for _ in range(2):
        threading.Thread(target=inject, args=(wake,), daemon=True).start()
    while progress < runs and not bad:
        worker = threading.Thread(target=work, args=(pairs[0][0],), daemon=True)
        worker.start()
        worker.join(PATIENCE)
        if worker.is_alive():
            bad[f"hangs in run {progress}"] += 1
    over = True
    print(json.dumps({"python": sys.version.split()[0], "runs": progress, "seen": seen, "bad": bad}), flush=True)
    os._exit(bool(bad))


if __name__ == "__main__":
    main()
