"""A supervisor that follows a configuration: whose ladder counts, who is started again, and what the log says of it."""

import asyncio
import os
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, current_context
from supervisor.config import load

from ..waiting import until

LIMIT = 20  # seconds after which whoever waits gives up


pytestmark = pytest.mark.usefixtures("quiet")


def obey(ctx):
    """Returns the grace that it is given: on a clock that stands still nothing of it has passed."""
    ctx.stop.wait(LIMIT)
    return ctx.remaining()


def obey_call(entered):
    entered.set()
    return obey(current_context())


def ask(grace):
    return EscalationPolicy(Ask(grace))


def configured(**document):
    return load(document, environ={})


WORKERS = {"feeds/*": {"policy": {"ask": 12}}, "obey-*": {"policy": {"ask": 15}}}
BOTH = configured(policy={"ask": 14}, workers=WORKERS)
NAMES_ONLY = configured(workers=WORKERS)


@pytest.mark.parametrize(
    ("config", "of_supervisor", "of_group", "of_worker", "name", "grace"),
    [
        (BOTH, ask(16), ask(13), ask(11), "reader", 11),  # what `start` is given
        (BOTH, ask(16), ask(13), None, "reader", 12),  # the file, for its name
        (BOTH, ask(16), ask(13), None, "obey", 12),
        (configured(policy={"ask": 14}), ask(16), ask(13), None, "reader", 13),  # what `group` is given
        (configured(policy={"ask": 14}), ask(16), None, None, "reader", 14),  # the file, for all
        (configured(shutdown_timeout=3), ask(16), None, None, "reader", 16),  # what the supervisor is given
        (configured(shutdown_timeout=3), None, None, None, "reader", 5),
        (None, None, None, None, "reader", 5),
    ],
)
def test_the_nearest_that_names_a_ladder_counts(virtual, config, of_supervisor, of_group, of_worker, name, grace):
    async def main(loop):
        async with Supervisor(config=config, policy=of_supervisor) as sup:
            group = sup.group("feeds", policy=of_group)
            worker = await group.start(obey, name=name, policy=of_worker)
            return (await worker.stop()).value

    assert virtual(main) == pytest.approx(grace)


def test_a_worker_without_a_name_is_found_by_that_of_its_function(virtual):
    async def main(loop):
        async with Supervisor(config=NAMES_ONLY, policy=ask(16)) as sup:
            return [(await (await sup.start(obey, name=name)).stop()).value for name in (None, "obey")]

    assert virtual(main) == pytest.approx([15, 16])


def test_calls_have_the_ladders_of_their_names(virtual):
    config = configured(
        policy={"ask": 14}, workers={"named": {"policy": {"ask": 12}}, "obey_call-*": {"policy": {"ask": 15}}}
    )

    async def main(loop):
        graces = []
        async with Supervisor(config=config) as sup:
            for call in (
                lambda entered: sup.run(obey_call, entered, name="named"),
                lambda entered: sup.run(obey_call, entered),
                lambda entered: asyncio.wrap_future(sup.executor().submit(obey_call, entered)),
                lambda entered: sup.run(obey_call, entered, name="other"),
            ):
                entered = threading.Event()
                task = asyncio.ensure_future(call(entered))
                await until(entered.is_set)
                [worker] = sup.workers()
                await worker.stop()
                graces.append(await task)
        return graces

    assert virtual(main) == pytest.approx([12, 15, 15, 14])


@pytest.mark.parametrize(("config", "ended"), [(configured(policy={"inject": 60}), "injected"), (None, "abandoned")])
async def test_a_ladder_from_a_file_is_followed_as_it_stands_also_where_a_call_is_cancelled(config, ended):
    entered, enough = threading.Event(), threading.Event()

    def spin():
        entered.set()
        while not enough.is_set():
            pass

    async with Supervisor(config=config, policy=None if config else EscalationPolicy(Ask(0))) as sup:
        task = asyncio.ensure_future(sup.run(spin))
        await asyncio.to_thread(entered.wait, LIMIT)
        [worker] = sup.workers()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.outcome.ended == ended
        enough.set()


# ------------------------------------------------------------------------------------------------ restarts


class Failing:
    """A worker that fails in each run, and counts them."""

    def __init__(self):
        self.runs = []

    def __call__(self, ctx):
        self.runs.append(ctx.name)
        raise ValueError(ctx.name)


ONCE = {"when": "failure", "max_restarts": 1, "within": 1000, "backoff": 0}


@pytest.mark.parametrize(
    ("document", "argument", "runs"),
    [
        ({"restart": ONCE}, None, 2),
        ({"workers": {"feed": {"restart": ONCE}}}, None, 2),
        ({"restart": ONCE, "workers": {"feed": {"restart": {"when": "never"}}}}, None, 1),
        ({"workers": {"web": {"restart": ONCE}}}, None, 1),
        ({"restart": ONCE}, Restart("never"), 1),  # what `start` is given
        ({"restart": ONCE}, Restart("failure", max_restarts=2, backoff=0, within=1000), 3),
    ],
)
async def test_a_worker_is_started_again_as_the_file_says_unless_start_is_told(document, argument, runs):
    failing = Failing()
    async with Supervisor(config=configured(**document)) as sup:
        worker = await sup.start(failing, name="feed", restart=argument)
        await worker.wait()
    assert len(failing.runs) == runs


async def test_a_worker_without_a_name_is_started_again_by_that_of_its_function():
    failing = Failing()
    async with Supervisor(config=configured(workers={"Failing-?": {"restart": ONCE}})) as sup:
        await (await sup.start(failing)).wait()
    assert len(failing.runs) == 2


async def test_a_group_that_begins_anew_brings_its_workers_with_the_restarts_of_the_file():
    failing = Failing()
    async with Supervisor(config=configured(workers={"feeds/*": {"restart": ONCE}})) as sup:
        group = sup.group("feeds", restart=Restart("always", max_restarts=1, within=1000, backoff=0))
        await group.start(failing, name="reader")
        while len(failing.runs) < 4 or sup.workers():
            await asyncio.sleep(0.001)
    assert failing.runs == ["feeds/reader"] * 4


async def test_a_call_is_not_started_again():
    runs = []

    def fail():
        runs.append(1)
        raise ValueError

    async with Supervisor(config=configured(restart=ONCE)) as sup:
        with pytest.raises(ValueError):
            await sup.run(fail)
    assert len(runs) == 1


# ------------------------------------------------------------------------------------------------ times


async def test_the_shutdown_takes_the_time_of_the_file(events):
    async with Supervisor(config=configured(shutdown_timeout=3), shutdown_timeout=7):
        pass
    async with Supervisor(config=configured(policy={"ask": 1}), shutdown_timeout=7):
        pass
    told = [event["timeout"] for event in events if event["event"] == "supervisor.stopping"]
    assert told == [3, 7]


async def test_the_calls_go_on_for_the_time_of_the_file(events):
    async with Supervisor(config=configured(drain=2), drain=3):
        pass
    async with Supervisor(config=configured(drain=0), drain=3):
        pass
    async with Supervisor(config=configured(shutdown_timeout=8), drain=7):
        pass
    told = [event.get("drain") for event in events if event["event"] == "supervisor.stopping"]
    assert told == [2, None, 6]


async def test_ladders_that_the_platform_does_not_wait_for_are_told_before_they_are_needed(events):
    def told():
        return [
            (event["level"], event["pattern"], event["kind"], event["platform"], event["seconds"], event["given"])
            for event in events
            if event["event"] == "supervisor.over_budget"
        ]

    document = {
        "policy": {"ask": 5, "terminate": 6},
        "platform": {"docker": 10},
        "workers": {"slow": {"policy": {"ask": 40}}, "quick": {"policy": {"ask": 1}}},
    }
    sup = Supervisor(config=configured(**document))
    assert told() == []
    async with sup:
        threads = [("warning", "slow", "thread", "docker", 40.25, 10)]
        assert told() == threads
        for _ in range(2):
            assert await sup.run(os.getpid, kind="process") != os.getpid()
        assert told()[1:] == [
            ("warning", "*", "process", "docker", 13.25, 10),
            ("warning", "slow", "process", "docker", 42.25, 10),
        ]
    assert len(told()) == 3
    [first] = [event["reason"] for event in events if event["event"] == "supervisor.over_budget"][:1]
    assert "a thread's ladder may take 40.25 s, but docker gives 10 s" in first


async def test_late_calls_of_the_default_executor_tell_of_no_ladder_again(events):
    async with Supervisor(config=configured(policy={"ask": 40}, platform={"docker": 10})) as sup:
        sup.install_as_default_executor()
    assert await asyncio.to_thread(int) == 0
    told = [event["supervisor"] for event in events if event["event"] == "supervisor.over_budget"]
    assert told == [sup.name]


def test_an_empty_table_is_the_default_ladder():
    for empty in configured(policy={}), configured(workers={"*": {"policy": {}}}):
        assert empty.policy_for("any") == EscalationPolicy()


async def test_the_ladder_and_the_time_that_the_supervisor_is_given_are_compared_too(events):
    config = configured(platform={"docker": 10})
    async with Supervisor(config=config, policy=EscalationPolicy(Ask(60), Inject(1)), shutdown_timeout=9):
        pass
    async with Supervisor(config=config):
        pass
    told = [event["reason"] for event in events if event["event"] == "supervisor.over_budget"]
    assert len(told) == 1
    assert told[0].endswith("; a shutdown shrinks the ladder to 9 s")


@pytest.mark.parametrize("config", ["policy.toml", {"policy": {"ask": 5}}, EscalationPolicy()])
def test_what_was_not_loaded_is_refused(config):
    with pytest.raises(TypeError, match=r"config=.*: must be what supervisor\.config\.load\(\) returns"):
        Supervisor(config=config)
