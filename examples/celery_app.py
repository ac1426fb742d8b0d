"""Celery tasks that end in time: a worker with `supervisor.celery:Pool`, and three tasks, two of which never end.

    python examples/celery_app.py

Needs a Redis, at `redis://localhost`, or where `BROKER` says. The program starts the worker, sends it the tasks, prints
what becomes of them, and ends the worker while a task is stuck. By itself, the worker is started by

    CELERY_CUSTOM_WORKER_POOL=supervisor.celery:Pool celery -A celery_app worker -P custom
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

BROKER = os.environ.get("BROKER", "redis://localhost")

app = Celery("celery_app", broker=BROKER, backend=BROKER)
app.conf.task_track_started = True


@app.task(name="add")  # type: ignore[untyped-decorator, unused-ignore]
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="careful", soft_time_limit=3)  # type: ignore[untyped-decorator, unused-ignore]
def careful() -> str:
    try:
        while True:
            pass
    except SoftTimeLimitExceeded:
        return "cleaned up"


@app.task(name="stubborn")  # type: ignore[untyped-decorator, unused-ignore]
def stubborn() -> None:
    while True:
        pass


def worker() -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "CELERY_CUSTOM_WORKER_POOL": "supervisor.celery:Pool",
        "STOPLADDER_SHUTDOWN_TIMEOUT": "2",  # seconds that a warm shutdown may take
    }
    command = [sys.executable, "-m", "celery", "-q", "-A", "celery_app", "worker", "-P", "custom", "-c", "2"]
    return subprocess.Popen(command, cwd=Path(__file__).parent, env=environ)


def main() -> None:
    with worker() as process:
        try:
            print("add:", add.delay(1, 2).get(timeout=60))
            print("careful:", careful.delay().get(timeout=60))
            try:
                stubborn.apply_async(time_limit=1).get(timeout=60)
            except Exception as error:
                print("stubborn:", repr(error))
            stuck = stubborn.delay()
            while stuck.state != "STARTED":
                time.sleep(0.05)
            began = time.monotonic()
            process.terminate()  # a warm shutdown, while a task is stuck
            process.wait()
            print(f"the worker has ended after {time.monotonic() - began:.0f} s")
        finally:
            process.terminate()  # whatever has gone wrong


if __name__ == "__main__":
    main()
