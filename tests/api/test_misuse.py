"""What a newcomer gets wrong is refused at once, or warned of, in words that say what to do."""

import asyncio
import contextlib
import functools
import subprocess
import sys
import threading
import warnings

import pytest

from supervisor import Ask, Supervisor, SupervisorError, WorkerContext, WorkerTimeout, current_context

from ..contract import functions as f
from ..waiting import until


def generator():
    yield 1


async def coroutine():
    pass


async def async_generator():
    yield 1


def no_ctx():
    return 1


def needs(ctx, number, *, unit="m"):
    ctx.stop.wait(number)


class Rows:
    def __init__(self, number=0):
        self.number = number

    def rows(self):
        yield self.number

    def __call__(self):
        yield self.number

    def poll(self, ctx: WorkerContext, every):
        ctx.stop.wait(every)


async def by_run(sup, fn):
    return await sup.run(fn)


async def by_start(sup, fn):
    return await sup.start(fn)


async def by_executor(sup, fn):
    return sup.executor().submit(fn)


async def by_map(sup, fn):
    return sup.executor().map(fn, [])


async def by_a_group(sup, fn):
    return await sup.group("group").run(fn)


@pytest.mark.parametrize("give", [by_run, by_start, by_executor, by_map, by_a_group], ids=lambda give: give.__name__)
@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (generator, "generator): is a generator function"),
        (functools.partial(generator), "generator): is a generator function"),
        (Rows().rows, "rows): is a generator function"),
        (Rows(), "Rows): is a generator function"),
        (coroutine, "coroutine): is a coroutine function"),
        (async_generator, "an async generator function"),
        (None, "give the function, and its arguments after it"),
    ],
)
async def test_what_runs_nothing_is_refused_at_once(give, fn, says):
    async with Supervisor() as sup:
        with pytest.raises(TypeError) as caught:
            await give(sup, fn)
        assert says in str(caught.value)
        assert sup.workers() == ()


async def test_a_coroutine_in_place_of_a_function_is_refused_and_closed():
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match="await it, instead of giving it to run"):
            await sup.run(coroutine())


async def test_a_class_whose_objects_make_generators_is_a_function():
    async with Supervisor() as sup:
        assert (await sup.run(Rows, 5)).number == 5


async def test_a_call_that_returns_a_coroutine_fails_and_one_that_returns_a_generator_is_warned_of():
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"'feed' returned a coroutine .* await the coroutine function itself"):
            await sup.run(lambda: coroutine(), name="feed")
        for make, what in ((generator, "a generator"), (async_generator, "an async generator")):
            with pytest.warns(RuntimeWarning, match=f"returned {what}: its body has not run"):
                assert await sup.run(lambda made=make: made()) is not None


@pytest.mark.parametrize("make", [generator, coroutine, async_generator])
async def test_a_worker_that_returns_what_has_not_run_has_failed(make, quiet):
    async with Supervisor() as sup:
        outcome = await (await sup.start(lambda ctx: make(), name="feed")).wait()
    assert outcome.ended == "failed"
    assert str(outcome.error).startswith("worker 'feed' returned a")


# ------------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("fn", "args", "says"),
    [
        (
            no_ctx,
            (),
            "start(fn=no_ctx): would be called as no_ctx(ctx), but takes no arguments: its first parameter must",
        ),
        (lambda number: number, (5,), "(ctx, <int>), but takes no more than number: its first parameter must be the"),
        (needs, (), "needs(ctx), but misses number"),
        (needs, (1, 2), "needs(ctx, <int>, <int>), but takes no more than ctx, number"),
        (Rows().poll, (), "but misses every"),
        (functools.partial(needs, number=1), (1,), "has number twice"),
        (functools.partial(no_ctx), (), "takes no arguments"),
        (lambda ctx, *, must: must, (), "misses must"),
        (lambda ctx, number, /: number, (), "misses number"),
    ],
)
@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_what_start_cannot_call_is_refused_before_it_starts(fn, args, says, kind):
    async with Supervisor() as sup:
        with pytest.raises(TypeError) as caught:
            await sup.start(fn, *args, kind=kind, name="one")
        assert says in str(caught.value)
        assert sup.workers() == ()
        await (await sup.start(f.wait_for_stop, name="one")).stop()


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (needs, (0,)),
        (Rows().poll, (0,)),
        (functools.partial(needs, number=0), ()),
        (functools.partial(needs, unit="cm"), (0,)),
        (lambda *args: None, (1, 2)),
        (lambda ctx=None, **options: None, ()),
        (functools.wraps(needs)(lambda *args: None), ()),  # what it wraps is none of start's business
        (type("Callable", (), {"__call__": lambda self, ctx: None})(), ()),
        (print, ("is C code",)),
    ],
)
async def test_what_can_be_called_is_not_refused(fn, args, quiet):
    async with Supervisor() as sup:
        assert (await (await sup.start(fn, *args)).wait()).error is None


async def test_run_says_that_it_passes_no_context():
    async with Supervisor() as sup:
        with pytest.raises(
            TypeError, match=r"run\(fn=needs\): was called as needs\(<int>\), but misses number: run\(\) "
        ):
            await sup.run(needs, 5)
        with pytest.raises(TypeError, match=r"run\(\) passes no WorkerContext; inside, current_context\(\) returns it"):
            await sup.run(f.wait_for_stop, kind="process")
        with pytest.raises(TypeError, match=r"no_ctx\(<int>\), but takes no arguments"):
            await sup.run(no_ctx, 5)
        with pytest.raises(TypeError, match="mine"):
            await sup.run(f.fail, TypeError("mine"))


async def test_keyword_arguments_are_led_to_partial():
    async with Supervisor() as sup:
        for method in (sup.run, sup.start, sup.group("group").run):
            with pytest.raises(TypeError, match=r"functools.partial\(needs, unit=...\)"):
                await method(needs, 1, unit="cm")
        with pytest.raises(TypeError, match=r"no option time_out \(did you mean timeout\?\)"):
            await sup.run(no_ctx, time_out=5)


# ------------------------------------------------------------------------------------------------ readiness, shields


async def test_a_worker_that_never_says_that_it_is_ready(quiet, ladder_time):
    entered = threading.Event()
    async with Supervisor() as sup:
        starting = asyncio.ensure_future(sup.start(lambda ctx: entered.set() or ctx.stop.wait(), ready_timeout=0.5))
        await until(entered.is_set)
        await ladder_time.advance(0.5)
        with pytest.raises(WorkerTimeout, match=r"not ready within 0.5 s, as it had not called ctx.ready\(\)"):
            await starting
        with pytest.raises(SupervisorError, match=r"returned before it had called ctx.ready\(\)"):
            await sup.start(lambda ctx: None, ready_timeout=5)


def shields_nothing():
    current_context().shield()
    return 5


def shields():
    with current_context().shield():
        return 5


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_shield_that_is_not_entered_is_warned_of(kind, capfd):
    async with Supervisor() as sup:
        if kind == "thread":
            with pytest.warns(RuntimeWarning, match=r"called shield\(\) without `with`, so nothing was shielded"):
                assert await sup.run(shields_nothing) == 5
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(RuntimeWarning, match="without `with`"):
                    await sup.run(shields_nothing)
        else:
            try:
                await sup.run(shields_nothing, kind=kind)
            except RuntimeWarning as error:  # where the interpreter was told so
                print(error, file=sys.stderr)
            assert "called shield() without `with`" in capfd.readouterr().err
        assert await sup.run(shields, kind=kind) == 5


# ------------------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize(
    ("fn", "args", "says"),
    [
        (f.add, (1, threading.Lock()), "fn=add: cannot be sent to a process: argument 2, which is of type lock"),
        (f.same, ({"a": [1, threading.Lock()]},), "argument 1['a'][1], which is of type lock"),
        (f.same, (Rows(threading.Lock()),), "argument 1.number, which is of type lock"),
        (functools.partial(f.add, 1, c=threading.Lock()), (), "argument 'c' of the partial"),
        (threading.Event().wait, (), "cannot be sent to a process: __self__."),
    ],
)
async def test_what_cannot_be_sent_to_a_process_is_named(fn, args, says):
    async with Supervisor() as sup:
        with pytest.raises(TypeError) as caught:
            await sup.run(fn, *args, kind="process")
        assert says in str(caught.value)


TYPED = """
import asyncio, sys
if {without}: sys.modules["cloudpickle"] = None
from supervisor import Supervisor
def double(number): return number * 2
async def main():
    async with Supervisor() as sup:
        try:
            print(await sup.run(double, 21, kind="process"))
        except TypeError as error:
            print(error)
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["-c", "-"])
def test_a_function_that_was_typed_is_sent_by_value_or_refused(way):
    said = []
    for without in (True, False):
        code = TYPED.format(without=without)
        command = [sys.executable, way] if way == "-" else [sys.executable, way, code]
        given = code if way == "-" else None
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=True)
        said.append(done.stdout)
    assert "fn=double: cannot be sent to a process: it is of the main module, which is" in said[0]
    assert said[1] == "42\n"


# ------------------------------------------------------------------------------------------------ waiting for oneself


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("threads", [1, 2])
async def test_calls_that_would_wait_for_themselves_are_refused(method, threads):
    def wait_for_another(executor, depth, barrier):
        barrier.wait(20)
        return getattr(executor.submit(no_ctx), method)()

    async with Supervisor(max_threads=threads) as sup:
        executor, barrier = sup.executor(), threading.Barrier(threads)
        calls = [sup.run(wait_for_another, executor, 1, barrier) for _ in range(threads)]
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        refused = [end for end in ends if isinstance(end, RuntimeError)]
        assert len(refused) == 1
        assert "max_threads" in str(refused[0])


async def test_a_call_may_wait_for_another_where_a_thread_is_left_or_with_a_timeout():
    async with Supervisor(max_threads=2) as sup:
        executor = sup.executor()
        assert await sup.run(lambda: executor.submit(no_ctx).result()) == 1
    async with Supervisor(max_threads=1) as sup:
        executor = sup.executor()
        with pytest.raises(TimeoutError):
            await sup.run(lambda: executor.submit(no_ctx).result(0.01))
        process = sup.executor("process")
        assert await sup.run(lambda: process.submit(int, "5").result()) == 5


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (
            lambda sup: sup.run(int, heartbeat=1),
            r"\(fn=int\): has no option heartbeat, which is an option of start\(\)",
        ),
        (lambda sup: sup.run(int, restart="always", after=()), r"no option restart, after, which are options of start"),
        (lambda sup: sup.start(f.wait_for_stop, timeout=1), r"no option timeout, which is an option of run\(\)"),
        (lambda sup: sup.run(int, policy=(Ask(1),)), r"such as EscalationPolicy\(Ask\(grace=1.0\)\)$"),
        (lambda sup: sup.run(int, policy=Ask(1)), r"such as EscalationPolicy\(Ask\(grace=1.0\)\)$"),
        (lambda sup: sup.run(int, policy={"ask": 1}), r"such as EscalationPolicy.from_config\({'ask': 1}\)$"),
        (lambda sup: sup.run(int, policy=()), r"such as EscalationPolicy\(Ask\(5\), Inject\(2\)\)$"),
        (lambda sup: sup.start(f.wait_for_stop, restart="always"), r'such as Restart\("always"\)$'),
        (lambda sup: sup.start(f.wait_for_stop, restart=True), r'such as Restart\("failure"\)$'),
        (lambda sup: sup.start(f.wait_for_stop, restart=[]), r'such as Restart\("failure"\)$'),
    ],
)
async def test_what_was_meant_is_named(give, says):
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=says):
            await give(sup)


async def test_a_plain_with_is_told_of_async_with():
    sup = Supervisor("app")
    for enter in (sup.__enter__, lambda: contextlib.ExitStack().enter_context(sup)):
        with pytest.raises(RuntimeError, match=r"'app'.*`async with`"):
            enter()
    with pytest.raises(RuntimeError, match="`async with`"), sup:
        pass
    async with sup:
        pass


async def test_a_function_that_returns_a_coroutine_is_named():
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"worker 'test_.*<lambda>' returned a coroutine"):
            await sup.run(lambda: coroutine())
