"""`executor()` under attack: injections, exits and closed loops in the midst of it, and callers who race."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import wait

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
)

from .. import inside
from .executors import LIMIT, PATIENT, Gatekeeper, aside, obedient


async def coroutine_function():
    pass


def _uses_a_future(ex):
    while True:
        future = ex.submit(int)
        while not future.done():
            pass


def _cancels(ex):
    while True:
        ex.submit(int).cancel()


def _maps(ex):
    while True:
        list(ex.map(abs, [1, 2]))


def _blocks(ex):
    while True:
        ex.submit(int).result(LIMIT)


@pytest.mark.skipif(sys.gettrace() is not None, reason="an injection into a tracer's own code leaves its lock taken")
@pytest.mark.parametrize("worker", [_uses_a_future, _cancels, _maps, _blocks])
async def test_a_worker_that_is_injected_while_it_uses_an_executor_leaves_no_lock_behind(worker):
    async with Supervisor(max_threads=2, policy=EscalationPolicy(Ask(0), Inject(5))) as sup:
        ex = sup.executor()
        for _ in range(12):
            for busy in [await sup.start(lambda ctx: worker(ex)) for _ in range(2)]:
                assert (await busy.stop()).ended in ("stopped", "injected")
            futures = [asyncio.wrap_future(ex.submit(int)) for _ in range(4)]
            assert await asyncio.wait_for(asyncio.gather(*futures), LIMIT) == [0] * 4
    assert sup.report.clean


def _waits(futures):
    def forever():
        while True:
            wait(futures)

    forever()


@pytest.mark.skipif(sys.gettrace() is not None, reason="an injection into a tracer's own code leaves its lock taken")
async def test_a_worker_that_is_injected_while_it_waits_for_several_futures_leaves_none_of_them_locked():
    async with Supervisor(policy=EscalationPolicy(Ask(0), Inject(5, every=0.02))) as sup:
        futures = [sup.executor().submit(int) for _ in range(50)]
        for _ in range(20):
            assert (await (await sup.start(lambda ctx: _waits(futures))).stop()).ended == "injected"
            for future in futures:
                assert future._condition.acquire(False)
                future._condition.release()


@pytest.mark.parametrize("seen_by", ["nobody", "a listener", "a handle"])
async def test_a_done_callback_that_blocks_holds_up_no_shutdown(seen_by, leftovers):
    async with Supervisor(shutdown_timeout=LIMIT) as sup:
        listener = sup.transitions() if seen_by == "a listener" else None
        keeper = Gatekeeper()
        future = sup.executor().submit(keeper)
        blocked = threading.Event()
        future.add_done_callback(lambda _: blocked.set() or leftovers.block())
        await keeper.wait_entered()
        if seen_by == "a handle":
            assert len(sup.workers()) == 1
        keeper.open.set()
        assert await aside(blocked.wait, LIMIT)
        report = await sup.shutdown()
        assert report.seconds < LIMIT / 2
        assert report.counts() == {}
        del listener


async def test_one_after_the_other_never_finds_the_pool_busy():
    async with Supervisor(max_threads=1, max_queued=0) as sup:
        ex = sup.executor()
        listener = sup.transitions(buffer=1)
        await aside(lambda: [ex.submit(int).result() for _ in range(300)])
        del listener


async def test_a_done_callback_may_submit_the_next_call():
    async with Supervisor(max_threads=1, max_queued=0) as sup:
        ex, keeper, seen = sup.executor(), Gatekeeper(), []
        future = ex.submit(keeper)
        future.add_done_callback(lambda _: seen.append(ex.submit(pow, 2, 3)))
        keeper.open.set()
        await aside(future.result)
        while not seen:
            await asyncio.sleep(0)
        assert await aside(seen[0].result) == 8


async def test_sys_exit_in_a_callback_of_a_withdrawn_call_reaches_who_cancelled_and_harms_nobody(ex, sup, gatekeeper):
    futures = [ex.submit(gatekeeper), ex.submit(gatekeeper)]
    await gatekeeper.wait_entered(2)
    future = ex.submit(int)
    future.add_done_callback(lambda _: sys.exit("bye"))
    with pytest.raises(SystemExit):
        future.cancel()
    assert future.cancelled()
    assert not (await aside(wait, [future], LIMIT)).not_done
    gatekeeper.open.set()
    await aside(wait, futures)
    while sup.workers():
        await asyncio.sleep(0)
    assert (await sup.shutdown()).counts() == {}


async def test_sys_exit_in_a_callback_of_a_stopped_call_does_not_end_the_loop(events):
    async with Supervisor(policy=PATIENT) as sup:
        future = sup.executor().submit(obedient, entered := threading.Event())
        assert await aside(entered.wait, LIMIT)
        future.add_done_callback(lambda _: sys.exit("bye"))
        future.cancel()
        assert isinstance(await aside(future.exception), WorkerStopped)
        while not any(event["event"] == "worker.callback_failed" for event in events):
            await asyncio.sleep(0)
    events.clear()  # their errors hold the frames of what has failed


async def test_transitions_are_in_order_however_a_shutdown_and_submits_mix():
    for _ in range(10):
        async with Supervisor(max_threads=2) as sup:
            seen, ex, futures = sup.transitions(buffer=1_000_000), sup.executor(), []

            def submit(ex=ex, futures=futures):
                try:
                    while True:
                        futures.append(ex.submit(int))
                except SupervisorClosed:
                    pass

            submitting = [asyncio.ensure_future(aside(submit)) for _ in range(3)]
            while len(futures) < 20:
                await asyncio.sleep(0)
        await asyncio.gather(*submitting)
        last = {}
        async for transition in seen:
            assert (last.get(transition.worker) is None) == (transition.new == "queued"), transition
            last[transition.worker] = transition.new


def test_a_call_whose_loop_has_closed_while_it_was_stopped_still_resolves():
    code = (
        "import asyncio, threading\n"
        "from supervisor import Supervisor\n"
        "held = threading.Event()\n"
        "async def main():\n"
        "    future = Supervisor().executor().submit(held.wait, 10)\n"
        "    while not future.running():\n"
        "        await asyncio.sleep(0)\n"
        "    future.cancel()\n"
        "    while future.run.climb is None:\n"
        "        await asyncio.sleep(0)\n"
        "    return future\n"
        "future = asyncio.run(main())\n"
        "held.set()\n"
        "print(future.result(10))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


async def test_a_call_cannot_wait_for_its_own_executor(ex):
    with pytest.raises(RuntimeError, match="would wait for itself"):
        await aside(ex.submit(ex.shutdown).result)


async def test_shutdown_waits_for_each_call_that_it_did_not_refuse(sup):
    for _ in range(30):
        ex, futures = sup.executor(), []

        def submit(ex=ex, futures=futures):
            try:
                while True:
                    futures.append(ex.submit(int))
                    if len(futures) > 200:
                        time.sleep(0.0001)
            except SupervisorClosed:
                pass

        submitting = asyncio.ensure_future(aside(submit))
        while len(futures) < 5:
            await asyncio.sleep(0)
        await aside(ex.shutdown)
        await submitting
        assert all(future.done() for future in futures)


async def test_a_kept_future_keeps_neither_the_function_nor_its_arguments(ex):
    class Big:
        def method(self, other=None):
            pass

    alive = []
    for make in (lambda big: ex.submit(big.method), lambda big: ex.submit(int.__add__, 1, 1)):
        big = Big()
        alive.append(weakref.ref(big))
        future = make(big)
        del big
        await aside(future.result)
        await aside(ex.submit(int).result)
        gc.collect()
    assert [reference() for reference in alive] == [None, None]


@pytest.mark.parametrize("chunksize", [1, 2])
async def test_map_treats_sys_exit_and_coroutine_functions_as_submit_does(ex, chunksize):
    assert await aside(lambda: list(ex.map(lambda _: sys.exit(0), range(2), chunksize=chunksize))) == [None, None]
    with pytest.raises(TypeError, match="coroutine function"):
        ex.map(coroutine_function, [1], chunksize=chunksize)


async def test_map_takes_everything_back_where_its_items_fail(ex, gatekeeper):
    def items():
        yield from range(5)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        ex.map(gatekeeper, items())
    gatekeeper.open.set()
    while inside.under_way(ex):
        await asyncio.sleep(0.001)


async def test_closing_the_results_of_map_before_the_first_takes_everything_back(ex, gatekeeper):
    ex.map(gatekeeper, range(5)).close()
    gatekeeper.open.set()
    while inside.under_way(ex):
        await asyncio.sleep(0.001)
