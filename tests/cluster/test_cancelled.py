"""Who is cancelled at the very moment at which it gets what it waits for is cancelled: a link ends when it shall."""

import ast
import asyncio
from pathlib import Path

import pytest

import supervisor

from ..inside_cluster import Channel, answer_of, connected, have_all_acknowledged, scheduler


class Comm:
    def abort(self):
        """Nothing is open."""


async def cancelled_as_it_comes(monkeypatch, turns, name, wait):
    """Has what is waited for come, and cancels whoever waits some turns of the loop later; returns how that ended."""
    came = asyncio.get_running_loop().create_future()

    async def answer(*args, **options):
        return await came

    monkeypatch.setattr(scheduler, name, answer)
    waiting = asyncio.ensure_future(wait())
    for _ in range(3):
        await asyncio.sleep(0)
    came.set_result(Comm())
    for _ in range(turns):
        await asyncio.sleep(0)
    if not waiting.cancel():
        return "done"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    return "cancelled"


@pytest.mark.parametrize(
    ("name", "wait"),
    [
        ("connect", lambda: connected("tcp://fake:1", 5, {})),
        ("send_recv", lambda: answer_of(Comm(), 5, op="ncores")),
    ],
)
async def test_at_whichever_turn_of_the_loop(monkeypatch, name, wait):
    ends = [await cancelled_as_it_comes(monkeypatch, turns, name, wait) for turns in range(6)]
    assert ends[0] == "cancelled"
    assert ends[-1] == "done"


async def test_who_waits_for_the_last_acknowledgement_too():
    for turns in range(4):
        channel = Channel(lambda items: None, lambda news: None, lambda error: None)
        channel.send("bye")
        waiting = asyncio.ensure_future(channel.flushed(5))
        for _ in range(3):
            await asyncio.sleep(0)
        have_all_acknowledged(channel)
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            assert turns


def test_nobody_waits_by_what_may_swallow_a_cancellation():
    """`asyncio.wait_for` does on Python 3.11, where what it waits for comes at that moment."""
    package = Path(supervisor.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]
    assert not found
