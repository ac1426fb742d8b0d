"""Strategies and escalation, with real threads."""

import asyncio
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, RestartLimitExceeded, Supervisor

LADDER = EscalationPolicy(Ask(20), Inject(2))  # who obeys has all the time it needs, on any machine
AT_ONCE = Restart("failure", backoff=0, max_restarts=3)


class Crew:
    """Workers that wait until they are told to fail, and note when they begin and end."""

    def __init__(self):
        self.story = []
        self.fail = {}

    def __call__(self, ctx):
        name, told = ctx.name, threading.Event()
        self.fail[name] = told
        self.story.append(f"{name} up")
        ctx.ready()
        try:
            with ctx.on_stop(told.set):
                told.wait(20)
            if not ctx.stop.is_set():
                raise ValueError(name)
        finally:
            self.story.append(f"{name} down")

    async def start(self, sup, names, **options):
        return [
            await sup.start(self, name=name, **{"restart": AT_ONCE, "ready_timeout": 20, **options}) for name in names
        ]

    async def has(self, *entries):
        """Waits until the story has so many entries."""
        while len(self.story) < len(entries):
            await asyncio.sleep(0.001)
        assert tuple(self.story) == entries


async def attempts(workers, *wanted):
    while tuple(worker.attempt for worker in workers) != wanted or any(w.state != "running" for w in workers):
        await asyncio.sleep(0.001)


async def test_one_for_one_leaves_the_others_alone():
    async with Supervisor(policy=LADDER) as sup:
        crew = Crew()
        workers = await crew.start(sup, "abc")
        idents = [worker.ident for worker in workers]
        await crew.has("a up", "b up", "c up")
        crew.fail["b"].set()
        await attempts(workers, 1, 2, 1)
        assert (workers[0].ident, workers[2].ident) == (idents[0], idents[2])


async def test_one_for_all_stops_all_and_starts_them_in_order():
    async with Supervisor(policy=LADDER, strategy="one_for_all") as sup:
        crew = Crew()
        workers = await crew.start(sup, "abc")
        await crew.has("a up", "b up", "c up")
        crew.fail["b"].set()
        await attempts(workers, 2, 2, 2)
        while len(crew.story) < 9:
            await asyncio.sleep(0.001)
        assert sorted(crew.story[3:6]) == ["a down", "b down", "c down"]
        assert crew.story[6:] == ["a up", "b up", "c up"]


async def test_rest_for_one_leaves_the_earlier_ones_alone():
    async with Supervisor(policy=LADDER, strategy="rest_for_one") as sup:
        crew = Crew()
        workers = await crew.start(sup, "abc")
        await crew.has("a up", "b up", "c up")
        before = workers[0].ident
        crew.fail["b"].set()
        await attempts(workers, 1, 2, 2)
        assert workers[0].ident == before


async def test_a_worker_without_restart_ends_with_the_others_and_is_not_revived():
    async with Supervisor(policy=LADDER, strategy="one_for_all") as sup:
        crew = Crew()
        (once,) = await crew.start(sup, ["once"], restart=None)
        workers = await crew.start(sup, "ab")
        await crew.has("once up", "a up", "b up")
        crew.fail["a"].set()
        assert (await once.wait()).ended == "stopped"
        await attempts(workers, 2, 2)
        assert [worker.name for worker in sup.workers()] == ["a", "b"]


async def test_a_sibling_that_fails_on_the_way_up_begins_it_again_and_counts():
    async with Supervisor(policy=LADDER, strategy="one_for_all", on_exhausted="give_up") as sup:
        crew = Crew()
        broken = threading.Event()

        def breaks(ctx):
            if broken.is_set():
                raise OSError("no longer")
            crew(ctx)

        first = await sup.start(crew, name="first", restart=AT_ONCE, ready_timeout=20)
        second = await sup.start(
            breaks, name="second", restart=Restart("failure", backoff=0, max_restarts=2, within=600)
        )
        await crew.has("first up", "second up")
        broken.set()
        crew.fail["first"].set()
        outcome = await asyncio.wait_for(second.wait(), 20)
        assert isinstance(outcome.error, RestartLimitExceeded)
        assert isinstance(outcome.error.__cause__, OSError)
        await asyncio.wait_for(first.ready(), 20)
        assert first.attempt >= 4


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_escalation_shuts_the_supervisor_down_and_leaving_the_block_raises(strategy):
    crew = Crew()
    with pytest.raises(RestartLimitExceeded, match="'b'") as caught:
        async with Supervisor(policy=LADDER, strategy=strategy, on_exhausted="escalate") as sup:
            a, b = await crew.start(sup, "ab", restart=Restart("failure", max_restarts=0))
            await crew.has("a up", "b up")
            crew.fail["b"].set()
            await sup.wait_closed()
    assert isinstance(caught.value.__cause__, ValueError)
    assert sup.report.reason == "'b' is given up"
    assert (a.outcome.ended, b.outcome.ended) == ("stopped", "failed")


async def test_the_bodys_own_error_goes_first_and_has_a_note():
    crew = Crew()
    with pytest.raises(KeyError) as caught:
        async with Supervisor(policy=LADDER, on_exhausted="escalate") as sup:
            await crew.start(sup, "a", restart=Restart("failure", max_restarts=0))
            await crew.has("a up")
            crew.fail["a"].set()
            await sup.wait_closed()
            raise KeyError("mine")
    assert "is given up" in caught.value.__notes__[0]


async def test_giving_up_ends_that_worker_alone():
    crew = Crew()
    async with Supervisor(policy=LADDER) as sup:
        _, b = await crew.start(sup, "ab", restart=Restart("failure", max_restarts=0))
        await crew.has("a up", "b up")
        crew.fail["b"].set()
        assert isinstance((await b.wait()).error, RestartLimitExceeded)
        assert [worker.name for worker in sup.workers()] == ["a"]


async def test_a_worker_that_must_be_abandoned_while_the_group_restarts_is_given_up(leftovers):
    async with Supervisor(policy=EscalationPolicy(Ask(0.05)), strategy="one_for_all", shutdown_timeout=2) as sup:
        crew = Crew()
        deaf = await sup.start(leftovers.block, name="deaf", restart=AT_ONCE)
        (a,) = await crew.start(sup, "a")
        await crew.has("a up")
        crew.fail["a"].set()
        outcome = await asyncio.wait_for(deaf.wait(), 20)
        assert outcome.ended == "abandoned"
        assert isinstance(outcome.error, RestartLimitExceeded)
        await attempts([a], 2)


@pytest.mark.parametrize("moment", ["coming down", "going up"])
async def test_a_shutdown_beats_a_restart_of_the_group(moment):
    hold = threading.Event()
    crew = Crew()

    def slow_to_go(ctx):
        crew(ctx)
        if moment == "coming down":
            hold.wait(20)

    def slow_to_come(ctx):
        if ctx.attempt > 1 and moment == "going up":
            ctx.stop.wait(20)
            return
        ctx.ready()
        crew(ctx)

    async with Supervisor(policy=EscalationPolicy(Ask(20)), strategy="one_for_all", shutdown_timeout=20) as sup:
        workers = await crew.start(sup, ["a"])
        workers.append(await sup.start(slow_to_go, name="b", restart=AT_ONCE))
        await crew.has("a up", "b up")
        workers.append(await sup.start(slow_to_come, name="c", restart=AT_ONCE, ready_timeout=20))
        await crew.has("a up", "b up", "c up")
        crew.fail["a"].set()
        if moment == "coming down":
            while workers[1].state != "stopping":
                await asyncio.sleep(0.001)
        else:
            while workers[2].attempt < 2:
                await asyncio.sleep(0.001)
        sup.request_shutdown()
        hold.set()
    assert not sup.report.abandoned
    assert sup.statistics().threads == 0
    assert all(worker.state == "ended" for worker in workers)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"strategy": "all"}, 'strategy=\'all\': must be "one_for_one", "one_for_all" or "rest_for_one"'),
        ({"on_exhausted": "explode"}, 'on_exhausted=\'explode\': must be "give_up" or "escalate"'),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        Supervisor(**arguments)
