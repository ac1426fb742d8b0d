"""`dump PID` reads where the threads of a process stand, or says why it cannot."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ..programs import run_program

NEW = sys.version_info >= (3, 14)
needs_unwinder = pytest.mark.skipif(not NEW, reason="the interpreter has no remote unwinder before 3.14")

PROGRAM = """if True:
    import ctypes, signal, sys, threading, time
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    def waits():
        time.sleep(100)
    def holds(system):
        system(b"echo up; exec >&-; sleep 100")  # which says that it is up once it keeps the interpreter
    thread = threading.Thread(target=waits, daemon=True)
    thread.start()
    while getattr(sys._current_frames().get(thread.ident), "f_code", None) is not waits.__code__:
        time.sleep(0.01)
    holds(ctypes.PyDLL(None).system)
"""


def dump(*arguments):
    return run_program(sys.executable, "-m", "supervisor", "dump", *arguments)


@pytest.fixture
def held():
    """A process whose interpreter C code holds, and that takes no signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "up\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@needs_unwinder
@pytest.mark.parametrize("stopped", [False, True])
def test_it_shows_all_threads_of_a_process_that_can_answer_nothing(held, stopped):
    if stopped:
        os.kill(held.pid, signal.SIGSTOP)
    done = dump(held.pid)
    assert done.returncode == 0, done.stderr
    assert ", in waits\n" in done.stdout
    assert ", in holds\n" in done.stdout
    threads = json.loads(dump(held.pid, "--json").stdout)["threads"]
    assert {thread["frames"][0]["function"] for thread in threads} == {"waits", "holds"}
    assert sys.version_info < (3, 15) or [thread["has_gil"] for thread in threads].count(True) == 1


@needs_unwinder
def test_what_is_no_python_or_has_ended_is_refused():
    process = subprocess.Popen(["sleep", "100"])
    try:
        done = dump(process.pid)
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert (done.returncode, done.stderr) == (1, f"process {process.pid}: is no Python process\n")
    done = dump(process.pid)  # a zombie
    process.wait()
    assert (done.returncode, done.stderr) == (1, f"process {process.pid}: there is no such process\n")


@pytest.mark.skipif(NEW, reason="this interpreter has one")
def test_an_older_python_says_what_to_do_instead():
    done = dump(os.getpid())
    assert done.returncode == 1
    assert "needs Python 3.14 or later" in done.stderr
    assert "py-spy dump" in done.stderr
