"""Wrong arguments: each is refused at once, by name, and nothing is lost by it."""

import asyncio
import functools
import math
import threading

import pytest

from supervisor import Restart, Supervisor

from .. import inside


async def coroutine_function():
    pass


async def generator_function():
    yield


class AsyncCallable:
    async def __call__(self):
        pass


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": ""}, ValueError, "name=''"),
        ({"name": "a/b"}, ValueError, "name='a/b'"),
        ({"name": 5}, TypeError, "name=5"),
        ({"name": None}, TypeError, "name=None"),
        ({"policy": "fast"}, TypeError, "policy='fast'"),
        ({"policy": {"ask": 5}}, TypeError, "policy="),
        ({"shutdown_timeout": -1}, ValueError, "shutdown_timeout=-1"),
        ({"shutdown_timeout": math.nan}, ValueError, "shutdown_timeout=nan"),
        ({"shutdown_timeout": None}, TypeError, "shutdown_timeout=None"),
        ({"shutdown_timeout": "20"}, TypeError, "shutdown_timeout='20'"),
        ({"max_threads": 0}, ValueError, "max_threads=0"),
        ({"max_threads": -3}, ValueError, "max_threads=-3"),
        ({"max_threads": 2.5}, TypeError, "max_threads=2.5"),
        ({"max_threads": True}, TypeError, "max_threads=True"),
        ({"max_queued": -1}, ValueError, "max_queued=-1"),
        ({"max_queued": "many"}, TypeError, "max_queued='many'"),
        ({"on_abandoned": "kill"}, ValueError, "on_abandoned='kill'"),
        ({"on_abandoned": None}, ValueError, "on_abandoned=None"),
        ({"logger": "log"}, TypeError, "logger='log'"),
        ({"slow_after": 0}, ValueError, "slow_after=0"),
        ({"slow_after": "1"}, TypeError, "slow_after='1'"),
        ({"stall_after": 0}, ValueError, "stall_after=0"),
        ({"stall_after": -1}, ValueError, "stall_after=-1"),
        ({"incidents": -1}, ValueError, "incidents=-1"),
        ({"incidents": None}, TypeError, "incidents=None"),
        ({"origins": 1}, TypeError, "origins=1"),
        ({"control": 5}, TypeError, "control=5"),
        ({"control": b"/run/app"}, TypeError, "control=b'/run/app'"),
        ({"control": ""}, ValueError, "control=''"),
        ({"control": "a\0b"}, ValueError, "control='a\\x00b'"),
        ({"dump_signal": "USR1"}, TypeError, "dump_signal='USR1'"),
        ({"dump_signal": 9}, ValueError, "dump_signal=9"),
        ({"dump_signal": 10, "wake_signal": 10}, ValueError, "dump_signal=10"),
        ({"max_thread": 5}, TypeError, "max_thread"),
    ],
)
def test_a_supervisor_that_cannot_be(arguments, error, says):
    with pytest.raises(error) as caught:
        Supervisor(**arguments)
    assert says in str(caught.value)


CALLS = [
    ((5,), {}, TypeError, "fn=5"),
    ((None,), {}, TypeError, "fn=None"),
    ((coroutine_function,), {}, TypeError, "coroutine_function): is a coroutine function"),
    ((generator_function,), {}, TypeError, "generator_function): is a coroutine function"),
    ((functools.partial(coroutine_function),), {}, TypeError, "is a coroutine function"),
    ((AsyncCallable(),), {}, TypeError, "AsyncCallable): is a coroutine function"),
    ((AsyncCallable().__call__,), {}, TypeError, "__call__): is a coroutine function"),
    ((int,), {"kind": "fiber"}, ValueError, "kind='fiber'"),
    ((int,), {"kind": "cluster"}, ValueError, 'for one of a node, say on="cluster"'),
    ((int,), {"policy": 5}, TypeError, "policy=5"),
    ((int,), {"name": ""}, ValueError, "name=''"),
    ((int,), {"name": "a/b"}, ValueError, "name='a/b'"),
    ((int,), {"name": b"x"}, TypeError, "name=b'x'"),
    ((int,), {"unknown": 1}, TypeError, "unknown"),
]
RUN_ONLY = [
    ((int,), {"timeout": -1}, ValueError, "timeout=-1"),
    ((int,), {"timeout": math.nan}, ValueError, "timeout=nan"),
    ((int,), {"timeout": "1"}, TypeError, "timeout='1'"),
    ((int,), {"timeout": True}, TypeError, "timeout=True"),
]


START_ONLY = [((int,), {"kind": None}, ValueError, "kind=None")]  # a call has that of its pool


@pytest.mark.parametrize(
    ("method", "args", "options", "error", "says"),
    [("run", *row) for row in CALLS + RUN_ONLY] + [("start", *row) for row in CALLS + START_ONLY],
)
async def test_a_call_that_cannot_be(method, args, options, error, says):
    async with Supervisor() as sup:
        with pytest.raises(error) as caught:
            await getattr(sup, method)(*args, **options)
        assert says in str(caught.value)
        assert sup.workers() == ()
        assert await sup.run(int, "5", name="next") == 5


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda sup: sup.shutdown(timeout=-1), ValueError, "timeout=-1"),
        (lambda sup: sup.shutdown(timeout="1"), TypeError, "timeout='1'"),
        (lambda sup: sup.shutdown(reason=5), TypeError, "reason=5"),
        (lambda sup: asyncio.to_thread(sup.request_shutdown, 5), TypeError, "reason=5"),
    ],
)
async def test_a_shutdown_that_cannot_be(call, error, says):
    async with Supervisor() as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        with pytest.raises(error) as caught:
            await call(sup)
        assert says in str(caught.value)
        assert worker.state == "running"


async def test_a_stop_that_cannot_be():
    async with Supervisor() as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        with pytest.raises(TypeError, match="reason=5"):
            await worker.stop(5)  # type: ignore[arg-type]
        assert worker.state == "running"


async def test_infinite_times_are_allowed_where_they_mean_something():
    async with Supervisor(shutdown_timeout=math.inf) as sup:
        assert await sup.run(int, "5", timeout=math.inf) == 5
        await sup.start(lambda ctx: ctx.stop.wait())


async def test_where_there_are_no_posix_signals_a_process_is_refused_at_once(monkeypatch):
    inside.patch(monkeypatch, POSIX=False)
    async with Supervisor() as sup:
        for refused in (sup.run(int, kind="process"), sup.start(int, kind="process")):
            with pytest.raises(ValueError, match='kind="process": worker processes need POSIX'):
                await refused
        with pytest.raises(ValueError, match="need POSIX"):
            sup.executor("process")
        assert await sup.run(int) == 0


# ------------------------------------------------------------------------------------------------ start


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"restart": "failure"}, TypeError, "restart='failure'"),
        ({"restart": Restart}, TypeError, "restart="),
        ({"heartbeat": 0}, ValueError, "heartbeat=0"),
        ({"heartbeat": -1}, ValueError, "heartbeat=-1"),
        ({"heartbeat": "10"}, TypeError, "heartbeat='10'"),
        ({"heartbeat": True}, TypeError, "heartbeat=True"),
        ({"heartbeat": math.nan}, ValueError, "heartbeat=nan"),
        ({"ready_timeout": 0}, ValueError, "ready_timeout=0"),
        ({"ready_timeout": -1}, ValueError, "ready_timeout=-1"),
        ({"ready_timeout": "1"}, TypeError, "ready_timeout='1'"),
        ({"after": "db"}, TypeError, "after='db'"),
        ({"after": None}, TypeError, "after=None"),
        ({"after": {"db"}}, TypeError, "after={'db'}"),
        ({"after": (5,)}, TypeError, "5"),
        ({"after": ("nobody",)}, ValueError, "after='nobody'"),
        ({"after": ("itself",), "name": "itself"}, ValueError, "after='itself'"),
        ({"after": ("a/b",)}, ValueError, "a/b"),
        ({"after": ("call",)}, ValueError, "after='call'"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_starts(options, error, says):
    release, ran = threading.Event(), []
    async with Supervisor() as sup:
        call = asyncio.create_task(sup.run(release.wait, 20, name="call"))
        await asyncio.sleep(0)
        with pytest.raises(error) as caught:
            await sup.start(ran.append, **options)
        assert says in str(caught.value)
        release.set()
        await call
        assert sup.workers() == ()
    assert ran == []
