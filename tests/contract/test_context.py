"""What a worker sees: the stop Event, check, sleep, on_stop, shield, remaining and extend."""

import asyncio
import math

import pytest

from supervisor import Ask, EscalationPolicy, Inject, StopEvent, Supervisor

from .. import inside
from . import context_functions as c
from . import functions as f
from .test_stopping import INJECTING, PATIENT, started


async def stopped(board, kind, fn, *args, policy=PATIENT, reason=""):
    """Starts a worker, stops it once it has been entered, and returns its outcome."""
    async with Supervisor(policy=policy) as sup:
        worker = await started(sup, board, fn, kind, *args)
        return await worker.stop(reason)


async def test_check_raises_once_a_stop_is_asked(kind, board):
    outcome = await stopped(board, kind, c.checker)
    assert (outcome.ended, outcome.step, outcome.value, outcome.error) == ("stopped", "ask", None, None)
    assert board.has("unwound")


async def test_sleep_is_ended_by_a_stop(kind, board):
    outcome = await stopped(board, kind, c.sleeps_briefly_then_long)
    assert (outcome.ended, outcome.error) == ("stopped", None)
    assert outcome.stop_seconds < 5


async def test_wait_returns_whether_a_stop_was_asked(kind, board):
    assert (await stopped(board, kind, c.waits)).value == [False] * 4 + [True] * 3


async def test_many_threads_can_wait_for_one_stop(kind, board):
    assert (await stopped(board, kind, c.helpers_wait)).value == [True] * 10


@pytest.mark.parametrize("reason", ["why", ""])
async def test_the_reason_reaches_the_worker(kind, board, reason):
    outcome = await stopped(board, kind, c.returns_its_reason, reason=reason)
    assert outcome.value == (reason or "stop")


@pytest.mark.parametrize(("seconds", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError)])
@pytest.mark.parametrize("method", ["sleep", "extend"])
async def test_seconds_that_are_none_are_refused_by_name(kind, method, seconds, error):
    async with Supervisor() as sup:
        with pytest.raises(error, match=rf"{method}\(seconds="):
            await sup.run(c.seconds_to, method, seconds, kind=kind)


async def test_the_repr_says_who_and_whether(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, c.reprs, kind, name="w")
        outcome = await worker.stop("why")
    assert outcome.value == [
        f"<WorkerContext of {kind} worker 'w', run 1>",
        f"<WorkerContext of {kind} worker 'w', run 1, stopping: why>",
    ]


async def test_stop_requested_that_nobody_asked_for_is_a_failure(kind):
    async with Supervisor() as sup:
        outcome = await (await sup.start(c.stop_requested, kind=kind)).wait()
    assert outcome.ended == "failed"


# ------------------------------------------------------------------------------------------------ on_stop


async def test_on_stop_wakes_a_blocked_socket(kind, board):
    outcome = await stopped(board, kind, c.wakes_a_socket)
    assert (outcome.ended, outcome.value) == ("stopped", b"")
    assert outcome.stop_seconds < 5


async def test_callbacks_run_in_order_on_a_helper_thread_before_an_injection(kind, board, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(1), Inject(f.LIMIT, every=f.LIMIT))) as sup:
        worker = await started(sup, board, c.callbacks_in_order, kind)
        stopping = asyncio.create_task(worker.stop("why"))
        await board.posted("order", lines=2)
        await ladder_time.advance(1)
        outcome = await stopping
    assert outcome.ended == "injected"
    assert board.lines("order") == ["first True", "second why", "injected"]


async def test_on_stop_callbacks_see_the_variables_of_who_registered_them_and_their_worker(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, c.variables_in_callbacks, kind, name="w")
        await worker.stop("why")
    assert sorted(board.lines("seen")) == [f"{who} w why" for who in ("later", "of a helper", "of the worker")]


async def test_a_callback_whose_block_was_left_does_not_run(kind, board):
    await stopped(board, kind, c.callback_of_a_block_that_was_left)
    assert not board.has("ran")


@pytest.mark.parametrize("fn", [c.late_callback, c.callback_leaves_its_own_block])
async def test_a_callback_may_be_late_and_may_leave_its_own_block(kind, board, fn):
    assert (await stopped(board, kind, fn)).value is True


async def test_leaving_the_block_waits_for_a_running_callback(kind, board):
    outcome = await stopped(board, kind, c.block_waits_for_its_callback)
    assert outcome.value == ["callback done", "block left"]


async def test_errors_of_callbacks_are_logged_and_stop_nothing(kind, board, events):
    async with Supervisor(policy=PATIENT) as sup:
        worker = await started(sup, board, c.broken_callbacks, kind, name="w")
        assert (await worker.stop()).value == "went on"
    failed = [event for event in events if event["event"] == "worker.callback_failed"]
    assert sorted(event["callback"] for event in failed) == ["broken", "broken", "exits", "exits"]
    assert all((event["worker"], event["level"]) == ("w", "error") for event in failed)
    assert all((event["kind"], event["attempt"]) == (kind, 1) for event in failed)
    texts = " ".join(repr(event["exc_info"]) for event in failed)
    assert texts.count("broken callback") >= 2
    assert texts.count("SystemExit") >= 2


async def test_a_callback_that_blocks_is_logged_and_the_ladder_goes_on(kind, board, events, ladder_time):
    async with Supervisor(policy=EscalationPolicy(Ask(1), Inject(f.LIMIT))) as sup:
        worker = await started(sup, board, c.blocking_callback, kind)
        stopping = asyncio.create_task(worker.stop())
        await board.posted("callback")
        await ladder_time.advance(1)
        outcome = await stopping
    board.post("release")
    assert outcome.ended == "injected"
    blocked = [event for event in events if event["event"] == "worker.callback_blocked"]
    assert len(blocked) == 1
    assert "blocks" in blocked[0]["callback"]
    assert (blocked[0]["kind"], blocked[0]["attempt"]) == (kind, 1)


@pytest.mark.parametrize("where", ["thread"])
async def test_one_that_blocks_is_logged_also_where_the_injection_ends_the_function_at_once(
    kind, board, events, ladder_time, monkeypatch
):
    inside.have_injected_functions_end_at_once(monkeypatch)
    async with Supervisor(policy=EscalationPolicy(Ask(1), Inject(f.LIMIT))) as sup:
        worker = await started(sup, board, c.blocking_callback, kind)
        stopping = asyncio.create_task(worker.stop())
        await board.posted("callback")
        await ladder_time.advance(1)
        assert (await stopping).ended == "injected"
    board.post("release")
    assert [event["event"] for event in events].count("worker.callback_blocked") == 1


async def test_a_callback_without_a_decent_repr_harms_nobody(kind, board, events):
    assert (await stopped(board, kind, c.nameless_callback)).ended == "stopped"
    failed = [event["callback"] for event in events if event["event"] == "worker.callback_failed"]
    assert [name.rpartition(".")[2] for name in failed] == ["Nameless", "method"]


async def test_on_stop_wants_a_callable(kind):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"on_stop\(callback=5\)"):
            await sup.run(c.on_stop_with, 5, kind=kind)


# ------------------------------------------------------------------------------------------------ shields


async def injected(sup, board, worker):
    """Stops a worker; says so on its board once it has been injected, and some time after."""
    seen = sup.transitions()
    stopping = asyncio.create_task(worker.stop())
    async for transition in seen:
        if transition.step == "inject":
            break
    await asyncio.sleep(0.01)
    board.post("injected")
    return await stopping


@pytest.mark.parametrize(
    ("depth", "log"), [(1, ["stored", "raised on leaving"]), (2, ["inner left", "stored", "raised on leaving"])]
)
async def test_a_shield_holds_an_injection_back_until_the_outermost_is_left(kind, board, depth, log):
    async with Supervisor(policy=INJECTING) as sup:
        worker = await started(sup, board, c.shielded, kind, depth)
        outcome = await injected(sup, board, worker)
    assert outcome.value == log
    assert outcome.ended == "injected"


async def test_an_error_of_the_shielded_block_is_the_context_of_the_injection(kind, board):
    async with Supervisor(policy=INJECTING) as sup:
        worker = await started(sup, board, c.shields_and_an_error, kind)
        outcome = await injected(sup, board, worker)
    assert outcome.value == "ValueError('mine')"


async def test_a_shield_belongs_to_the_workers_own_thread(kind):
    async with Supervisor() as sup:
        (error,) = await sup.run(c.shield_elsewhere, kind=kind)
    assert "own thread" in error


async def test_a_shield_does_not_hold_back_the_steps_after_inject(kind, board, leftovers):
    policy = EscalationPolicy(Ask(0.02), Inject(0.1, every=0.02))
    async with Supervisor(policy=policy, shutdown_timeout=1) as sup:
        worker = await started(sup, board, c.shielded_forever, kind)
        outcome = await worker.stop()
    assert outcome.ended == {"thread": "abandoned", "process": "killed"}[kind]
    board.post("never")


async def test_registering_and_leaving_in_a_storm_of_injections(kind, board):
    policy = EscalationPolicy(Ask(0), Inject(f.LIMIT, every=0.001))
    for _ in range({"thread": 5, "process": 1}[kind]):
        outcome = await stopped(board, kind, c.attack_registry, policy=policy)
        assert (outcome.ended, outcome.error) == ("injected", None)
        assert outcome.value in (50, None)  # the last one may strike anywhere


# ------------------------------------------------------------------------------------------------ graces


class Asking:
    """Has a worker evaluate expressions."""

    def __init__(self, board):
        self._board = board
        self._number = 0

    async def __call__(self, question):
        self._number += 1
        self._board.post(f"question-{self._number}", question)
        return float(await self._board.posted(f"answer-{self._number}"))

    def let_go(self):
        self._board.post(f"question-{self._number + 1}", "return")


def about(seconds):
    """That, or a little less: time passes while it is asked, and more on a busy machine."""
    return pytest.approx(seconds - 2.5, abs=2.501)


async def test_remaining_and_extend(kind, board):
    sup = Supervisor(policy=EscalationPolicy(Ask(100), Inject(20, every=100)), shutdown_timeout=200)
    worker = await started(sup, board, c.asks, kind)
    ask = Asking(board)
    assert await ask("-1 if ctx.remaining() == float('inf') else 0") == -1
    assert await ask("ctx.extend(5)") == 0
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    while await ask("-1 if ctx.remaining() == float('inf') else 0"):
        pass
    assert await ask("ctx.remaining()") == about(100)
    assert await ask("ctx.extend(30)") == pytest.approx(30)
    assert await ask("ctx.remaining()") == about(130)
    kill = {"thread": 0, "process": 2}[kind]
    assert await ask("ctx.extend(1000)") == pytest.approx(200 - 130 - 20 - kill, abs=0.01)
    closing = asyncio.create_task(sup.shutdown(timeout=50))
    await asyncio.sleep(0)
    while (left := await ask("ctx.remaining()")) > 50:
        assert not stopping.done()
    assert left == about(50 * (180 - kill) / 200)
    assert await ask("ctx.extend(1000)") == pytest.approx(0, abs=0.01)
    ask.let_go()
    outcome = await stopping
    assert (outcome.ended, outcome.value) == ("stopped", "done")
    assert (await closing).clean


async def test_extend_moves_the_next_step(kind, board, ladder_time):
    policy = EscalationPolicy(Ask(1), Inject(f.LIMIT))
    async with Supervisor(policy=policy, shutdown_timeout=60) as sup:
        worker = await started(sup, board, c.extends, kind, 1.5)
        stopping = asyncio.create_task(worker.stop())
        await board.posted("extended")
        await ladder_time.advance(1.5)
        assert not stopping.done()
        board.post("release")
        outcome = await stopping
    assert outcome.ended == "stopped"
    assert outcome.value == pytest.approx(1.5, abs=0.01)
    assert outcome.stop_seconds > 1.49


async def test_a_stop_event_is_of_the_public_type(kind):
    async with Supervisor() as sup:
        assert await sup.run(c.type_of_stop, kind=kind) == StopEvent.__name__


async def test_the_stop_reaches_a_worker_that_asks_for_its_context_late(kind, board):
    async with Supervisor(policy=PATIENT) as sup:
        task = asyncio.create_task(sup.run(c.context_is_made_late, board, kind=kind))
        await board.posted("entered")
        stopping = asyncio.create_task(sup.workers()[0].stop("why"))
        while sup.workers()[0].state != "stopping":
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # a process has heard of it
        board.post("look")
        assert await task == (True, "why")
        await stopping
