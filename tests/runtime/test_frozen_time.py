"""Clocks that tests of an application freeze, or move: ladders go as the loop's timers do."""

import asyncio
import time

import pytest
import uvloop
from freezegun import freeze_time

from supervisor import Ask, EscalationPolicy, Restart, Supervisor, WorkerTimeout, current_context

from ..waiting import LIMIT
from . import context_functions as f

QUICK = EscalationPolicy(Ask(LIMIT))


def deaf():
    while not current_context().stop.is_set():
        pass


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("before", [True, False], ids=["bound before", "bound while it is frozen"])
def test_everything_that_needs_time_has_it_while_it_is_frozen(factory, kind, before, quiet):
    async def main():
        sup = Supervisor(policy=QUICK)
        if before:
            await sup.run(f.look)
        with freeze_time("2020-01-01", real_asyncio=True):
            with pytest.raises(WorkerTimeout) as error:
                await sup.run(deaf, kind=kind, timeout=0.3)
            assert error.value.outcome.ended in ("stopped", "cancelled")
            assert 0 <= error.value.outcome.seconds < LIMIT
            fails = await sup.start(f.fail, kind=kind, restart=Restart("failure", max_restarts=1, backoff=0.01))
            assert (await fails.wait()).ended == "failed"
            ready = await sup.start(f.be_ready, kind=kind, ready_timeout=LIMIT, heartbeat=5)
            assert len(sup.stacks()) == 1
            assert (await ready.stop()).ended == "stopped"
            await sup.shutdown()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 2 * LIMIT))


async def test_a_loop_whose_time_is_moved_on(monkeypatch):
    loop = asyncio.get_running_loop()
    real = loop.time
    async with Supervisor(policy=QUICK) as sup:
        call = asyncio.create_task(sup.run(f.obey, timeout=3600))
        await asyncio.sleep(0.01)
        began = time.monotonic()
        monkeypatch.setattr(loop, "time", lambda: real() + 4000)
        with pytest.raises(WorkerTimeout):
            await call
        assert time.monotonic() - began < LIMIT
        monkeypatch.undo()
