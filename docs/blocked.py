"""Tries which blocked calls an injection ends, and by what, and writes the table in `blocked.md`.

    python docs/blocked.py .venv-3.11/bin/python .venv-3.12/bin/python ...

tries it on each of these Pythons, which takes some minutes. `--print` only prints it, `--rows event lock` does so for
these rows. Each row is tried in a process of its own, so that none can hold up the others.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import blocked_on_others  # noqa: F401
import blocked_on_system  # noqa: F401  # the rows, in this order
import structlog
from blocked_calls import CALLS

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("blocked.md")
POLICY = EscalationPolicy(Ask(0.1), Inject(), Terminate(1), Kill(1))  # from Inject() on, as by default
SETTLED = 0.2
"""Seconds after which whoever was about to block is blocked."""
LIMIT = 25
"""Seconds for all trials of one row; only one that holds the GIL takes as long."""
TRIALS = 3
AT_ONCE = 5

# ------------------------------------------------------------------------------------- in the process of one row


def block(ctx, key: str, freed: bool) -> None:
    call, free = CALLS[key].set_up()
    with ExitStack() as stack:
        if freed and free is not None:
            stack.enter_context(ctx.on_stop(free))
        ctx.ready()
        call()


async def stopped(key: str, *, kind: str = "thread", freed: bool = False, policy: EscalationPolicy = POLICY) -> dict:
    """How a worker ended that was stopped while blocked: the step, where it stood, and milliseconds since the step."""
    async with Supervisor(process_start_timeout=LIMIT, max_processes=1) as sup:
        seen = sup.transitions()
        worker = await sup.start(block, key, freed, kind=kind, policy=policy, ready_timeout=LIMIT)
        await asyncio.sleep(SETTLED)
        outcome = await worker.stop()
    transitions = [each async for each in seen]
    begun = next(each.at for each in transitions if each.step == outcome.step)
    return {
        "ended": outcome.ended,
        "ms": 1000 * (transitions[-1].at - begun),
        "waited": innermost(outcome.stack) == ("threading.py", "wait"),
        "error": None if outcome.error is None else type(outcome.error).__name__,
    }


def innermost(stack: str | None) -> tuple[str, str] | None:
    """The file and the function of the innermost frame."""
    frames = re.findall(r'File ".*?([^/"]+)", line \d+, in (\w+)', stack or "")
    return frames[-1] if frames else None


class Struck(BaseException):
    pass


def struck_alone(key: str) -> bool:
    """Whether an exception ends it that is pending, and nothing else."""
    ready = threading.Event()

    def body() -> None:
        call, _ = CALLS[key].set_up()
        ready.set()
        try:
            call()
        except BaseException:
            return

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    ready.wait()
    time.sleep(SETTLED)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Struck))
    thread.join(1)
    return not thread.is_alive()


def try_row(key: str) -> None:
    """Prints a line for each trial, those first that end in any case."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    def say(trial: str, found: object) -> None:
        print(json.dumps([trial, found]), flush=True)

    if CALLS[key].freed_by is None:
        say("process", asyncio.run(stopped(key, kind="process")))
    else:
        say("freed", asyncio.run(stopped(key, freed=True, policy=EscalationPolicy(Ask(2)))))
    for _ in range(TRIALS):
        found = asyncio.run(stopped(key))
        say("ladder", found)
        if found["ended"] == "abandoned":
            return
    if found["ended"] == "injected":
        say("alone", struck_alone(key))


# ------------------------------------------------------------------------------------- what is needed for some of them


def unprivileged() -> dict:
    """PostgreSQL does not run as root."""
    return {"user": "postgres"} if os.geteuid() == 0 else {}


@contextmanager
def postgresql() -> Iterator[str | None]:
    """Runs a server in a temporary folder, and gives the address of a database; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = (shutil.which("initdb") and Path(shutil.which("initdb")).resolve().parent) or (found and found[-1])
    if not programs:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        if unprivileged():
            shutil.chown(folder, "postgres")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **unprivileged()}
        subprocess.run([programs / "initdb", "-D", f"{folder}/data", "-U", "postgres"], check=True, **quiet)
        options = ["-D", f"{folder}/data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen([programs / "postgres", *options], **quiet)
        try:
            deadline = time.monotonic() + 30
            while subprocess.run([programs / "pg_isready", "-h", folder], check=False, **quiet).returncode:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.1)
            yield f"host={folder} user=postgres dbname=postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--net"]

SILENT_NAME_SERVER = """
import fcntl, os, socket, struct, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(server, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
server.bind(("127.0.0.1", 53))
server.set_inheritable(True)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def without_name_server(folder: str) -> list[str]:
    """What a command follows that is to run with a name server that does not answer, in namespaces of its own."""
    Path(folder, "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    mount = f'mount --bind {folder}/resolv.conf /etc/resolv.conf && exec "$@"'
    return [*NAMESPACES, "sh", "-c", mount, "sh"]


def namespaces() -> bool:
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--net",
        "mount",
        "--bind",
        "/etc/hosts",
        "/etc/hosts",
    ]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False, capture_output=True).returncode == 0


# ------------------------------------------------------------------------------------- all rows, on all Pythons


def tried(python: str, key: str, needed: dict[str, str | None]) -> dict[str, list]:
    """All that was found about a row: the results of each trial, by its name. Nothing where something is missing."""
    needs = CALLS[key].needs
    if needs is not None and not needed[needs]:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, __file__, "--try", key]
        if needs == "name server":
            command = [*without_name_server(folder), python, "-c", SILENT_NAME_SERVER, *command[1:]]
        environment = os.environ | {"TMPDIR": folder, "BLOCKED_POSTGRESQL": needed["PostgreSQL"] or ""}
        environment["PYTHONWARNINGS"] = "ignore"  # of what is left behind when all of it is killed
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            output = output_of(process)
    found: dict[str, list] = {}
    for line in output.splitlines():
        trial, result = json.loads(line)
        found.setdefault(trial, []).append(result)
    return found


def output_of(process: subprocess.Popen[str]) -> str:
    """What it has printed when it ends, or when its time is over, with nothing left of it."""
    timer = threading.Timer(LIMIT, lambda: os.killpg(process.pid, signal.SIGKILL))
    timer.start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        if line == "over\n":
            break
        lines.append(line)
    timer.cancel()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return "".join(lines)


def by_what(found: dict[str, list]) -> str:
    """What ended it, as the table says it."""
    ladder = found.get("ladder")
    if ladder is None:
        return "the GIL is held" if found else "not tried"
    endings = {each["ended"] for each in ladder}
    if endings == {"stopped"}:
        return "the stop Event"
    if endings != {"injected"}:
        return "no"
    if found["alone"] == [True]:
        return "the exception"
    return "woken" if all(each["waited"] for each in ladder) else "a signal"


def milliseconds(found: list[dict]) -> str:
    return f"{max(1, round(statistics.median(each['ms'] for each in found)))} ms"


def cell(found: dict[str, list]) -> str:
    what = by_what(found)
    return what if what in {"no", "not tried", "the GIL is held"} else f"{what}, {milliseconds(found['ladder'])}"


def otherwise(key: str, everywhere: list[dict[str, list]]) -> str:
    """What frees it otherwise, tried on all Pythons."""
    freed_by = CALLS[key].freed_by
    trials = [each for found in everywhere for each in found.get("freed" if freed_by else "process", ())]
    if not trials:
        return "not tried"
    endings = sorted({each["ended"] for each in trials})
    time_taken = milliseconds(trials)
    if freed_by is None:
        return f"a process: {' or '.join(endings)}, {time_taken}"
    return f"{freed_by}: {time_taken}" if endings == ["stopped"] else f"{freed_by}: {endings}"


def everything(pythons: list[str], keys: list[str]) -> dict[str, dict[str, dict[str, list]]]:
    """What was found about each row, by the version of Python and the row."""
    versions = {}
    for python in pythons:
        done = subprocess.run([python, "-V"], stdout=subprocess.PIPE, text=True, check=True)
        versions[re.search(r"3\.\d+", done.stdout)[0]] = python
    needs = {CALLS[key].needs for key in keys}
    with postgresql() if "PostgreSQL" in needs else nullcontext() as database, ThreadPoolExecutor(AT_ONCE) as pool:
        needed = {"PostgreSQL": database, "name server": "there" if "name server" in needs and namespaces() else None}
        jobs = {
            version: {key: pool.submit(tried, python, key, needed) for key in keys}
            for version, python in versions.items()
        }
        return {version: {key: job.result() for key, job in of_it.items()} for version, of_it in jobs.items()}


def table(found: dict[str, dict[str, dict[str, list]]]) -> str:
    rows = [["blocked in", *found, "otherwise"], ["---"] * (len(found) + 2)]
    for key in next(iter(found.values())):
        everywhere = [of_it[key] for of_it in found.values()]
        rows.append([CALLS[key].name, *map(cell, everywhere), otherwise(key, everywhere)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="*")
    parser.add_argument("--try", dest="key")
    parser.add_argument("--print", action="store_true", help="do not write the page")
    parser.add_argument("--rows", nargs="+", help="print these alone")
    options = parser.parse_args()
    if options.key:
        try_row(options.key)
        print("over", flush=True)
        os._exit(0)  # it may still be blocked
    made = table(everything(options.pythons or [sys.executable], options.rows or list(CALLS)))
    if options.print or options.rows:
        print(made)
        return
    text = re.sub(r"(?<=<!-- blocked -->\n).*?(?=<!-- -->)", lambda _: f"{made}\n", PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
