"""What the stack of an abandoned thread says of what it is blocked in."""

from dataclasses import replace

import pytest

from supervisor import Outcome

from ..inside import blocked, blocked_at_the_end


def stack(source, file="/app/jobs.py", function="work"):
    outer = '  File "/app/main.py", line 3, in main\n    lock.acquire()\n'
    return f'{outer}  File "{file}", line 7, in {function}\n    {source}\n'


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("self._lock.acquire()", "waiting for a lock"),
        ("with self._lock:", "waiting for a lock"),
        ("time.sleep(3600)", "sleeping"),
        ("sleep(3600)", "sleeping"),
        ("item = jobs.get()", "waiting in a get() in C, as that of SimpleQueue"),
        ("data = sock.recv(4096)", "waiting for a connection or a file"),
        ("return self._sock.recv_into(b)", "waiting for a connection or a file"),
        ("os.read(file, 1)", "waiting for a connection or a file"),
        ("pid, status = os.waitpid(self.pid, 0)", "waiting for a child process"),
        ("for res in _socket.getaddrinfo(host, port):", "looking up a name"),
    ],
)
def test_of_the_applications_own_code_the_line_tells(source, what):
    found = blocked(stack(source))
    assert found.what == f"{what} at /app/jobs.py:7"
    assert found.freed_by


@pytest.mark.parametrize(
    ("function", "source", "what"),
    [
        ("wait", "waiter.acquire()", "waiting in a Condition"),
        ("join", "self._handle.join(timeout)", "joining a thread"),
        ("_wait_for_tstate_lock", "if lock.acquire(block, timeout):", "joining a thread"),
        ("_acquire_restore", "self._lock.acquire()", "waiting for a lock"),
    ],
)
def test_of_the_module_threading_the_function_tells(function, source, what):
    assert blocked(stack(source, "/usr/lib/threading.py", function)).what == f"{what} at /usr/lib/threading.py:7"


def test_a_module_of_the_same_name_is_no_threading():
    assert "joining" not in blocked(stack("x = 1", "/app/mythreading.py", "join")).what


@pytest.mark.parametrize("source", ["library.crunch(data)", "pass", ""])
def test_of_the_rest_the_place_is_named(source):
    found = blocked(stack(source))
    assert found.what.startswith("in C code called at /app/jobs.py:7")
    assert "process" in found.freed_by


@pytest.mark.parametrize("text", ["", "  in sleep(), which is no Python code\n", "nonsense", '  File "'])
def test_where_there_are_no_frames_it_is_c_code(text):
    assert blocked(text).what == "in C code"


def test_of_one_on_a_node_that_does_not_answer_nobody_knows():
    outcome = Outcome(
        "call-1", "thread", 1, "abandoned", stack="  in work(), on node a, which does not answer\n", node="a"
    )
    assert blocked_at_the_end(outcome) is None
    assert blocked_at_the_end(replace(outcome, stack=stack("lock.acquire()"))) is not None
