"""What multiprocessing hands to its children, worker processes get too: tracker, key, name, parent, start method."""

import asyncio
import gc
import logging
import multiprocessing
import os
import socket
import sys
import textwrap
import time
from multiprocessing import reduction, resource_sharer, resource_tracker, shared_memory
from multiprocessing.connection import Client, Listener
from multiprocessing.managers import SyncManager
from pathlib import Path

import pytest

from supervisor import RemoteError, Supervisor

from ... import inside
from ...programs import run_program
from .faults import alive, children, sound, until

ROOT = Path(__file__).parents[3]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module", autouse=True)
def _has_helpers_already():
    """The owner has a tracker, and a thread that hands out files, before anybody counts children and files."""
    resource_tracker.ensure_running()
    ours, theirs = multiprocessing.Pipe()
    pickled = reduction.ForkingPickler.dumps(theirs)
    reduction.ForkingPickler.loads(pickled).close()
    ours.close()
    theirs.close()
    yield
    gc.collect()
    resource_sharer.stop(timeout=5)
    resource_tracker._resource_tracker._stop()


def owner(tmp_path, text, *, code=0):
    """Runs a program that owns worker processes; returns what it printed."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(text))
    done = run_program(sys.executable, script, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines(), done.stderr


# ------------------------------------------------------------------------------------------------ the resource tracker


def makes_shared_memory():
    memory = shared_memory.SharedMemory(create=True, size=16)
    memory.buf[0] = 42
    memory.close()
    return memory.name, children()


def reads_shared_memory(name):
    memory = shared_memory.SharedMemory(name)
    try:
        return memory.buf[0]
    finally:
        memory.close()


async def test_shared_memory_that_a_worker_makes_outlives_it_and_no_worker_has_a_tracker():
    async with sound(), Supervisor(max_processes=1, max_tasks=1) as sup:
        name, helpers = await sup.run(makes_shared_memory, kind="process")
        first = inside.processes(sup)
        await until(lambda: not set(first) & set(inside.processes(sup)))
        assert not helpers
        memory = shared_memory.SharedMemory(name)
        assert memory.buf[0] == 42
        memory.close()
        memory.unlink()


async def test_shared_memory_of_the_owner_outlives_a_worker_that_used_it():
    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        memory.buf[0] = 42
        async with sound(), Supervisor(max_processes=1, max_tasks=1) as sup:
            for _ in range(3):
                assert await sup.run(reads_shared_memory, memory.name, kind="process") == 42
    finally:
        memory.close()
        memory.unlink()


LEAKING = """
    import asyncio, os, signal, sys
    from multiprocessing import shared_memory
    from supervisor import Supervisor, WorkerDied

    def leaves_shared_memory():
        from multiprocessing import shared_memory
        print(shared_memory.SharedMemory(create=True, size=16).name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        async with Supervisor(max_processes=1) as sup:
            try:
                await sup.run(leaves_shared_memory, kind="process")
            except WorkerDied:
                pass

    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_shared_memory_of_a_worker_that_was_killed_is_removed_with_its_owner(tmp_path):
    lines, _ = owner(tmp_path, LEAKING)
    (name,) = [line for line in lines if line.startswith("psm_")]
    until_then = time.monotonic() + 10
    while Path("/dev/shm", name).exists() and time.monotonic() < until_then:
        time.sleep(0.01)
    assert not Path("/dev/shm", name).exists()


# ------------------------------------------------------------------------------------------------ the family


def looks_around():
    import multiprocessing as mp  # noqa: PLC0415  # it is imported here for the first time
    from multiprocessing import process  # noqa: PLC0415

    parent = mp.parent_process()
    log = mp.get_logger().level
    method = mp.get_start_method(allow_none=True)
    return mp.current_process().name, parent.name, parent.pid, parent.is_alive(), process.ORIGINAL_DIR, method, log


def name_of_process(ctx):
    return looks_around()[0]


async def test_a_worker_looks_to_multiprocessing_like_a_child_of_its_owner(monkeypatch):
    monkeypatch.setattr(multiprocessing.process, "ORIGINAL_DIR", "/where/it/began")
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    logger = multiprocessing.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        async with sound(), Supervisor(max_processes=1) as sup:
            name, *rest = await sup.run(looks_around, kind="process")
            assert rest == ["MainProcess", os.getpid(), True, "/where/it/began", "spawn", logging.ERROR]
            worker = await sup.start(name_of_process, kind="process", name="reader")
            assert name == "looks_around-1"
            assert (await sup.run(looks_around, kind="process"))[0] == "looks_around-3"
            assert (await worker.wait()).value == "reader"
    finally:
        logger.setLevel(before)
        multiprocessing.set_start_method(method, force=True)


def adds_to(numbers, number):
    numbers.append(number)


def says_hello(address):
    with Client(address, authkey=multiprocessing.current_process().authkey) as connection:
        connection.send("hello")


async def test_proxies_of_a_manager_are_used_in_a_worker():
    manager = SyncManager(ctx=SPAWN)
    await asyncio.to_thread(manager.start)
    try:
        numbers = manager.list()
        async with sound(), Supervisor(max_processes=1) as sup:
            await sup.run(adds_to, numbers, 5, kind="process")
        assert list(numbers) == [5]
    finally:
        manager.shutdown()


async def test_listeners_and_clients_share_the_key_of_the_owner_of_now(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "authkey", b"secret")
    with Listener(authkey=b"secret") as listener:
        async with sound(), Supervisor(max_processes=1) as sup:
            call = asyncio.ensure_future(sup.run(says_hello, listener.address, kind="process"))
            with await asyncio.to_thread(listener.accept) as connection:
                assert await asyncio.to_thread(connection.recv) == "hello"
            await call


OWNER_WITHOUT_MULTIPROCESSING = """
    import asyncio, sys
    from supervisor import Supervisor

    def key():
        import multiprocessing
        return bytes(multiprocessing.current_process().authkey)

    async def main():
        async with Supervisor(max_processes=2) as sup:
            await sup.run(abs, -1, kind="process")
            print("multiprocessing" in sys.modules)
            print("multiprocessing" in await sup.run(eval, "list(__import__('sys').modules)", kind="process"))
            keys = await asyncio.gather(*(sup.run(key, kind="process") for _ in range(2)))
            print(set(keys) == {key()})

    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_nobody_imports_multiprocessing_before_a_function_does(tmp_path):
    lines, _ = owner(tmp_path, OWNER_WITHOUT_MULTIPROCESSING)
    assert lines == ["False", "False", "True"]


# ------------------------------------------------------------------------------------------------ what is sent


def sends(connection, what):
    connection.send(what)
    connection.close()


def sends_by(sock):
    with sock:
        sock.sendall(b"by a socket")


def puts(ctx, queue, lock):
    with lock:
        for number in range(1000):
            queue.put(number)


async def test_connections_and_sockets_are_sent():
    async with sound(), Supervisor(max_processes=1) as sup:
        ours, theirs = multiprocessing.Pipe()
        await sup.run(sends, theirs, "by a pipe", kind="process")
        assert ours.recv() == "by a pipe"
        left, right = socket.socketpair()
        await sup.run(sends_by, right, kind="process")
        assert left.recv(100) == b"by a socket"
        for each in (ours, theirs, left, right):
            each.close()


SENDS_A_SOCKET = """
    import asyncio, socket, sys
    from supervisor import Supervisor

    def sends(sock):
        sock.sendall(b"by a socket")

    async def main():
        left, right = socket.socketpair()
        async with Supervisor(max_processes=1) as sup:
            await sup.run(sends, right, kind="process")
            print(left.recv(100))

    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_a_socket_is_sent_by_an_owner_that_has_not_imported_multiprocessing(tmp_path):
    assert owner(tmp_path, SENDS_A_SOCKET)[0] == ["b'by a socket'"]


async def gets_a_connection():
    there, here = multiprocessing.Pipe()
    there.send("by the loop")
    there.close()
    return here


def asks_for_a_connection(ctx):
    connection = ctx.call(gets_a_connection)
    return connection.recv()


async def test_a_connection_is_sent_as_the_answer_of_the_loop():
    async with sound(), Supervisor(max_processes=1) as sup:
        worker = await sup.start(asks_for_a_connection, kind="process")
        assert (await worker.wait()).value == "by the loop"


def returns_a_connection():
    return multiprocessing.Pipe()


async def test_a_connection_is_not_returned_for_its_number_would_be_that_of_another_file():
    async with sound(), Supervisor(max_processes=1) as sup:
        with pytest.raises(RemoteError, match="a connection of a worker process cannot be pickled"):
            await sup.run(returns_a_connection, kind="process")


async def test_locks_and_queues_of_spawn_are_sent_and_what_is_in_a_queue_arrives():
    queue, lock = SPAWN.Queue(), SPAWN.Lock()
    async with sound(), Supervisor(max_processes=1) as sup:
        worker = await sup.start(puts, queue, lock, kind="process")
        got = [await asyncio.to_thread(queue.get, timeout=20) for _ in range(1000)]
        await worker.wait()
    assert got == list(range(1000))
    queue.close()
    queue.join_thread()


async def test_a_lock_of_fork_is_refused_at_once_and_why():
    lock = multiprocessing.get_context("fork").Lock()
    async with sound(), Supervisor(max_processes=1) as sup:
        with pytest.raises(TypeError, match="created in a fork context"):
            await sup.run(bool, lock, kind="process")


# ------------------------------------------------------------------------------------------------ children of workers


def starts_a_child(ctx, daemon, method):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(3600,), daemon=daemon)
    child.start()
    return child.pid


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("daemon", [True, False])
async def test_children_of_a_worker_end_with_it(daemon, method):
    async with sound(), Supervisor(max_processes=1) as sup:
        worker = await sup.start(starts_a_child, daemon, method, kind="process")
        pid = (await worker.wait()).value
        await until(lambda: not alive(pid))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_any_start_method_may_be_set_in_the_owner(tmp_path, method):
    lines, _ = owner(
        tmp_path,
        f"""
        import asyncio, multiprocessing
        from supervisor import Supervisor

        def double(x):
            return 2 * x

        def doubles():
            with multiprocessing.Pool(1) as pool:
                return multiprocessing.get_start_method(), pool.map(double, [1, 2])

        async def main():
            async with Supervisor(max_processes=1) as sup:
                print(await sup.run(doubles, kind="process"))

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            asyncio.run(main())
        """,
    )
    assert lines == [f"('{method}', [2, 4])"]
