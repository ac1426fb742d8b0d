"""No exception from outside leaves a lock of ours taken, wherever it strikes."""

import ast
import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import supervisor
from supervisor import StopInjected

from ..inside import FutureLock, ScopedLock
from ..programs import found_by

ROOT = Path(__file__).parents[2]
RLock = type(threading.RLock())


@pytest.mark.parametrize("make", [ScopedLock, FutureLock])
def test_an_exception_that_comes_while_a_thread_waits_for_a_lock_leaves_it_free(make):
    lock, struck = make(), []

    def take():
        try:
            with lock:
                for _ in range(10):
                    len(struck)
        except StopInjected:
            struck.append(True)

    RLock.acquire(lock)
    thread = threading.Thread(target=take)
    thread.start()
    while not is_at_with(sys._current_frames().get(thread.ident), take):
        pass
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(StopInjected))
    RLock.release(lock)
    thread.join()
    assert struck
    assert is_free(lock)


def is_free(lock):
    """Whether another thread could take it."""
    with ThreadPoolExecutor() as other:
        taken = other.submit(lambda: RLock.acquire(lock, False) and not RLock.release(lock))
        return taken.result()


def is_at_with(frame, function):
    """Whether a thread waits in the `with` of a function, which is its third line, or in what that calls."""
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None and frame.f_lineno == function.__code__.co_firstlineno + 2


def test_reentrant_as_every_lock_that_a_signal_handler_may_meet():
    lock = ScopedLock()
    with lock:
        with lock:
            pass
        assert not is_free(lock)
    assert is_free(lock)
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert is_free(lock)


def test_every_lock_that_the_library_takes_with_with_is_such_a_lock():
    """A worker process's own are not: nothing strikes outside the function there."""
    root = Path(supervisor.__file__).parent
    modules = {path: ast.parse(path.read_text()) for path in root.rglob("*.py") if path.parent.name != "child"}
    made = {path: set(names_of_plain_locks(tree)) for path, tree in modules.items()}
    public = {name for names in made.values() for name in names if not name.startswith("_")}
    assert "settle" in public  # taken by hand, once
    for path, tree in modules.items():
        assert not (made[path] | public) & set(names_in_with(tree)), path


@pytest.mark.parametrize(
    ("exceptions", "strikes"),
    [
        pytest.param("interrupted", 200, marks=pytest.mark.timeout(300)),
        pytest.param("injected", 100, marks=pytest.mark.timeout(300)),
        pytest.param("interrupted", 20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
        pytest.param("injected", 5_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_a_storm_of_exceptions_leaves_no_lock_taken(exceptions, strikes):
    report, _ = found_by("tests.worker.lock_storm", exceptions, strikes, timeout=3600)
    assert report["strikes"] >= strikes
    assert report["left taken"] == []


def names_of_plain_locks(tree):
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[target], value=ast.Call(func=func)) if name(func) in PLAIN:
                yield name(target)


def names_in_with(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            yield from (name(item.context_expr) for item in node.items)


def name(node):
    return getattr(node, "attr", getattr(node, "id", None))


PLAIN = {"RLock", "Lock", "allocate_lock"}
