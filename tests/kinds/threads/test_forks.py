"""A process that a worker in a thread has forked: nothing of the supervisor acts in it."""

import asyncio
import multiprocessing
import os
import sys

import pytest

from supervisor import Supervisor, current_context

from ... import inside
from ...waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


async def add(a, b):
    return a + b


ASKS = {
    "call": lambda ctx: ctx.call(add, 1, 2),
    "cleanup": lambda ctx: ctx.call(add, 1, 2, cleanup=True),
    "ready": lambda ctx: ctx.ready(),
    "heartbeat": lambda ctx: ctx.heartbeat(),
    "extend": lambda ctx: ctx.extend(1),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("known", [True, False], ids=["its context is there", "its context is made in the child"])
async def test_whatever_it_asks_of_the_supervisor_is_an_error_at_once(ask, known):
    def in_the_child(pipe):
        try:
            pipe.send(ASKS[ask](current_context()))
        except BaseException as error:
            pipe.send(f"{type(error).__name__}: {error}")

    def work():
        if known:
            current_context()
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=in_the_child, args=(theirs,))
        child.start()
        try:
            return ours.recv() if ours.poll(20) else "no answer"
        finally:
            child.kill()
            child.join()
            ours.close()
            theirs.close()
            child.close()

    async with Supervisor() as sup:
        answer = await sup.run(work)
    assert "Error" in answer or "Misused" in answer
    assert "was forked by a worker" in answer


def returns():
    return "whatever"


def raises():
    raise ValueError("in the child")


def exits():
    sys.exit(7)


@pytest.mark.parametrize(("function", "status"), [(returns, 0), (raises, 1), (exits, 7)])
@pytest.mark.parametrize("how", ["run", "start", "executor"])
async def test_it_ends_with_the_function_and_answers_nobody(function, status, how, capfd):
    def work(*_):
        pid = os.fork()
        if pid == 0:
            return function()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async with Supervisor() as sup:
        if how == "run":
            found = await sup.run(work)
        elif how == "executor":
            found = await asyncio.wrap_future(sup.executor().submit(work))
        else:
            found = (await (await sup.start(work)).wait()).value
        assert found == status
        assert await sup.run(pow, 2, 3) == 8
    assert ("in the child" in capfd.readouterr().err) == (function is raises)


async def test_a_copy_wakes_none_of_the_threads_of_the_process_that_it_is_a_copy_of():
    async with Supervisor() as sup:
        await sup.run(returns)
        queue = inside.queue_of_threads(sup)
        await until(lambda: inside.sleepers(queue) == 1)
        pid = os.fork()
        if pid == 0:
            try:
                queue.put(None)
            finally:
                os._exit(len(inside.files_of(queue)))
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert inside.calls_for_threads(queue) == 0
        assert inside.sleepers(queue) == 1
