"""The app of the tests, with tasks that misbehave. Each says that it has begun by a file whose name it is given."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded
from kombu.transport import redis

from supervisor import current_context
from tests.inside_celery import tell_celery_after

app = Celery("tasks", broker=os.environ.get("BROKER", "memory://"), backend=os.environ.get("BACKEND"))
if "WITHOUT_LOOP" in os.environ:  # as if its transport knew of no event loop
    redis.Transport.implements = redis.Transport.implements.extend(asynchronous=False)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))
if "TELL_AFTER" in os.environ:
    tell_celery_after(float(os.environ["TELL_AFTER"]))
seen = []


def begun(mark):
    with Path(mark).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(Path(mark).read_text().splitlines())


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="noop")
def noop():
    return None


@app.task(name="pid")
def pid():
    return os.getpid()


@app.task(name="fail")
def fail():
    raise KeyError("a", 1)


@app.task(name="leave")
def leave(code):
    sys.exit(code)


@app.task(name="spin")
def spin(mark):
    begun(mark)
    while True:
        pass


@app.task(name="sleep")
def sleep(mark, seconds):
    begun(mark)
    time.sleep(seconds)
    return "slept"


@app.task(name="hold")
def hold(mark):
    """Holds the interpreter in C: nothing but a signal that kills ends it."""
    begun(mark)
    return sum(range(10**13))


@app.task(name="until")
def until(mark, release):
    begun(mark)
    while not Path(release).exists():
        time.sleep(0.005)
    return "released"


@app.task(name="soft")
def soft(mark):
    begun(mark)
    try:
        while True:
            pass
    except SoftTimeLimitExceeded:
        return "cleaned up"


@app.task(name="shielded")
def shielded(mark):
    """The soft limit passes while it is shielded."""
    begun(mark)
    kept = False
    try:
        with current_context().shield():
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                pass
            kept = True
        while True:
            pass
    except SoftTimeLimitExceeded:
        return kept


@app.task(name="polite")
def polite(mark):
    begun(mark)
    current_context().stop.wait(60)
    return "asked to stop"


@app.task(name="die_once", acks_late=True, reject_on_worker_lost=True)
def die_once(mark):
    if begun(mark) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "second time"


@app.task(name="die")
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="late", acks_late=True)
def late(mark, release):
    begun(mark)
    while not Path(release).exists():
        time.sleep(0.005)
    return "released"


@app.task(name="grow")
def grow(megabytes):
    globals()["kept"] = bytearray(megabytes << 20)
    return os.getpid()


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="count", acks_late=True)
def count(mark, seconds):
    begun(mark)
    time.sleep(seconds)


@app.task(name="echo")
def echo(value):
    return value


@app.task(name="odd_error")
def odd_error():
    error = ValueError("cannot be pickled")
    error.lock = threading.Lock()
    raise error


@app.task(name="odd_result")
def odd_result():
    return threading.Lock()


@app.task(name="children")
def children():
    """Starts a process of its own, as the children of Celery's own pool may not."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
    child.start()
    child.join()
    return child.exitcode


@app.task(name="try_again", bind=True, max_retries=3)
def try_again(self, mark):
    if begun(mark) < 3:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task(name="signals")
def signals_seen():
    return seen


@app.task(name="log", bind=True)
def log(self, text):
    from celery.utils.log import get_task_logger

    get_task_logger("tasks").warning("%s", text)
    print(f"printed {text}")


@signals.worker_process_init.connect
def process_init(**_):
    seen.append("worker_process_init")


@signals.worker_process_shutdown.connect
def process_shutdown(pid=None, **_):
    if "MARK_OF_SHUTDOWNS" in os.environ:
        begun(os.environ["MARK_OF_SHUTDOWNS"])
