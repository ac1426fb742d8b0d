"""Where workers stand is told whatever they are: what a stack is made from ends no ladder, and holds nothing up."""

import os
import sys

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor

from ..waiting import until


def deaf(event, filename, loader=None):
    """A function that hears nothing, in a file of this name."""
    names = {"event": event, "__name__": "made", "__loader__": loader}
    exec(compile("def deaf(ctx):\n    event.wait(30)", filename, "exec"), names)
    return names["deaf"]


class Broken:
    def get_source(self, name):
        raise SystemError("no source")


def pipe(tmp_path):
    path = tmp_path / "made.py"
    os.mkfifo(path)  # to open it waits until somebody writes into it
    return str(path)


TRACED = sys.gettrace() is not None  # coverage's tracer looks for the file of each frame, and raises in the function


@pytest.mark.parametrize(
    ("filename", "loader"),
    [
        (pipe, None),
        (lambda _: "/dev/stdin", None),
        pytest.param(
            lambda _: "made\ud800.py", None, marks=pytest.mark.skipif(TRACED, reason="coverage cannot bear it")
        ),
        (str, None),  # a folder
        (lambda _: "made.py", Broken()),
    ],
    ids=["pipe", "stdin", "surrogate", "folder", "loader"],
)
async def test_a_stack_without_source_has_its_frames_and_the_ladder_goes_on(
    filename, loader, tmp_path, leftovers, quiet
):
    function = deaf(leftovers.release, filename(tmp_path), loader)
    async with Supervisor(policy=EscalationPolicy(Ask(0.05))) as sup:
        worker = await sup.start(function)
        await until(lambda: ", line 2, in deaf\n" in worker.stack())
        outcome = await worker.stop()
    assert outcome.ended == "abandoned"
    assert ", line 2, in deaf\n" in outcome.stack


def recurse(ctx, depth):
    if depth:
        recurse(ctx, depth - 1)
    else:
        ctx.stop.wait()


async def test_a_stack_has_the_source_and_shows_a_recursion_once(quiet):
    async with Supervisor() as sup:
        worker = await sup.start(recurse, 20)
        await until(lambda: "stop.wait" in worker.stack())
        stack = worker.stack()
    assert "    recurse(ctx, depth - 1)\n" in stack
    assert "[Previous line repeated " in stack
    assert "    ctx.stop.wait()\n" in stack


async def test_a_worker_inside_a_greenlet_has_the_stack_of_that_greenlet(leftovers, quiet):
    """Playwright and SQLAlchemy run their blocking calls so; what switched to it is out of reach."""
    greenlet = pytest.importorskip("greenlet")

    def hangs_here():
        leftovers.release.wait(30)

    async with Supervisor(policy=EscalationPolicy(Ask(0.05))) as sup:
        worker = await sup.start(lambda ctx: greenlet.greenlet(hangs_here).switch(), name="green")
        await until(lambda: "in hangs_here" in worker.stack())
        assert "in hangs_here" in sup.stacks()["green"]
        outcome = await worker.stop()
    assert outcome.ended == "abandoned"
    assert "in hangs_here" in outcome.stack
