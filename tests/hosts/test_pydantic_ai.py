"""`executor()` under pydantic-ai: its tools run as calls of the supervisor."""

import asyncio
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, current_context

from ..waiting import LIMIT, until

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic_ai cannot be imported here")

from pydantic_ai.models.test import TestModel  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
async def sup():
    async with Supervisor("agents", policy=EscalationPolicy(Ask(0.1), Inject(LIMIT)), shutdown_timeout=LIMIT) as sup:
        yield sup


async def test_a_tool_runs_on_a_thread_of_the_supervisor(sup):
    agent = pydantic_ai.Agent(TestModel())
    seen = []

    @agent.tool_plain
    def where() -> str:
        seen.append((threading.current_thread().name, current_context().name))
        return "here"

    with pydantic_ai.Agent.using_thread_executor(sup.executor()):
        assert "here" in (await agent.run("where?")).output
    ((thread, name),) = seen
    assert thread.startswith("agents/")
    assert name


async def test_a_run_that_is_cancelled_stops_its_tool(sup):
    agent = pydantic_ai.Agent(TestModel())
    entered = threading.Event()

    @agent.tool_plain
    def spin() -> str:
        entered.set()
        while True:
            pass

    with pydantic_ai.Agent.using_thread_executor(sup.executor()):
        running = asyncio.create_task(agent.run("spin"))
        await until(entered.is_set)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, LIMIT)
    await until(lambda: not sup.workers())
