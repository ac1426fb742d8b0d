"""Real workers, with a real broker: what starts them, and what is asked of them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import celery
from celery import Celery
from kombu import pools

ROOT = Path(__file__).parents[2]
SOFT_SHUTDOWNS = celery.VERSION >= (5, 5)
"""Whether this Celery has soft shutdowns."""

LIMIT = 120
"""Seconds after which whoever waits gives up."""

QUICK = """
shutdown_timeout = 4
drain = 1
[policy]
ask = 0.2
inject = { grace = 0.6, every = 0.2 }
terminate = 0.5
kill = 1
"""
"""A ladder that ends anything within 2.3 s."""

LADDER = 2.3


def wait_until(condition, what, seconds=LIMIT):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def redis_server():
    return shutil.which("redis-server")


@contextlib.contextmanager
def redis(folder):
    """A Redis on a socket in a folder; gives the URLs of a broker and of a backend."""
    socket = Path(folder) / "redis"
    command = [
        redis_server(),
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--save",
        "",
        "--dir",
        folder,
        "--loglevel",
        "warning",
    ]
    with (Path(folder) / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_until(socket.exists, "redis-server")
            yield {"BROKER": f"redis+socket://{socket}", "BACKEND": f"redis+socket://{socket}", "CONF": "{}"}
        finally:
            server.kill()


class Client:
    """Sends tasks and looks at what came of them. It has few connections, all of them open before the first test."""

    def __init__(self, service):
        self.app = Celery("client", broker=service["BROKER"], backend=service["BACKEND"])
        self.app.conf.update(json.loads(service["CONF"]))
        self.send("noop")
        self.app.control.ping(timeout=0.01)
        self.state("none")
        self.purge()

    def send(self, name, *args, **options):
        return self.app.send_task(name, args, **options).id

    def state(self, task):
        return self.app.backend.get_task_meta(task)["status"]

    def ended(self, task):
        """Waits for the end of a task; returns how it ended, and the value or the error."""
        meta = wait_until(lambda: self.has_ended(task), lambda: f"{task} is {self.state(task)}")
        return meta["status"], meta["result"]

    def has_ended(self, task):
        self.app.backend._cache.clear()
        meta = self.app.backend.get_task_meta(task, cache=False)
        return meta if meta["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None

    def call(self, name, *args, **options):
        return self.ended(self.send(name, *args, **options))

    def ask(self, command, **arguments):
        """Returns the answer of the one worker to a remote control command."""
        for _ in range(5):
            answers = self.app.control.broadcast(command, arguments=arguments, reply=True, limit=1, timeout=5)
            if answers:
                return next(iter(answers[0].values()))
        raise AssertionError(f"nobody answers to {command}")

    def knows(self, *tasks):
        """Waits until the one worker knows of tasks that they have begun: Celery's own part of an end goes by that."""
        wait_until(lambda: {each["id"] for each in self.ask("active")} >= set(tasks), "the tasks are not active")

    def stats(self):
        return self.ask("stats")["pool"]

    def purge(self):
        self.app.control.purge()

    def close(self):
        results = self.app.backend.result_consumer
        results.stop()
        results._pubsub = None  # a result that is collected later would unsubscribe there, where nobody is any more
        self.app.close()
        pools.reset()


class Worker:
    """`celery worker`, whose log is a file."""

    def __init__(
        self, service, *options, kind="process", concurrency=2, conf=None, config=QUICK, pool="custom", **environ
    ):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.log = self.folder / "log"
        (self.folder / "policy.toml").write_text(config)
        environ = {
            **os.environ,
            **service,
            "CONF": json.dumps(json.loads(service["CONF"]) | (conf or {})),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "",
            "CELERY_CUSTOM_WORKER_POOL": "supervisor.celery:Pool",
            "SUPERVISOR_CELERY_KIND": kind,
            "SUPERVISOR_CONFIG": str(self.folder / "policy.toml"),
            **environ,
        }
        command = [sys.executable, "-m", "celery", "-A", "tests.celery.tasks", "worker", "-P", pool, "-l", "INFO"]
        command += ["-c", str(concurrency), "-n", f"{self.folder.name}@here", "--without-gossip", "--without-mingle"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *options], cwd=ROOT, env=environ, stdout=log, stderr=log)

    @property
    def pid(self):
        return self.process.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, text):
        def found():
            assert text in self.text() or self.process.poll() is None, self.text()
            return text in self.text()

        wait_until(found, self.text)

    def mark(self, name="mark"):
        """Returns the name of a file by which a task says that it has begun."""
        return str(self.folder / name)

    def begun(self, mark):
        """Waits until a task has begun; returns the process that it runs in."""
        return int(wait_until(lambda: Path(mark).exists() and Path(mark).read_text(), self.text).split()[-1])

    def children(self):
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()] + [
            int(pid)
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            if task.name != str(self.pid)
            for pid in (task / "children").read_text().split()
        ]

    def signal(self, number):
        self.process.send_signal(number)

    def gone(self, seconds=LIMIT):
        """Waits for the end of the worker; returns its exit code, and the seconds that this took."""
        began = time.monotonic()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {seconds} s:\n{self.text()}") from None
        return code, time.monotonic() - began

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if error is not None:
            print(self.text())
        self.close()
