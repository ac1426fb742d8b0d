"""Names and reasons are one line of text that can be shown: others are refused, or shown with their escapes."""

import functools

import pytest

from supervisor import Supervisor

UNFIT = [
    "a\nb",
    "a\r",
    "\x1b[31m",
    "\x00",
    "\x7f",
    "\x9b2J",
    "a\x85",
    "a\u2028b",
    "a\u202eb",
    "\u2066",
    "\ud800",
    "\udcff",
]
FIT = ["feeds", "a b", "naïve café", "日本語", "👩\u200d💻", "a\u00a0b", "\\n", "%s {x!r}", "x" * 1000]


@pytest.mark.parametrize("name", UNFIT)
async def test_a_name_that_cannot_be_shown_as_it_is_is_refused_by_its_field(name):
    with pytest.raises(ValueError, match=r"^name='.*': must have no line breaks, control characters") as refused:
        Supervisor(name)
    assert str(refused.value).isprintable()
    async with Supervisor() as sup:
        for call in (
            lambda: sup.run(int, name=name),
            lambda: sup.start(lambda ctx: ctx.stop.wait(), name=name),
        ):
            with pytest.raises(ValueError, match=r"^name='"):
                await call()
        with pytest.raises(ValueError, match=r"^name='"):
            sup.group(name)
        with pytest.raises(ValueError, match=r"^after='"):
            await sup.start(lambda ctx: ctx.stop.wait(), after=(name,))
        assert sup.workers() == ()


@pytest.mark.parametrize("name", FIT)
async def test_all_other_names_are_taken_as_they_are(name):
    async with Supervisor(name) as sup:
        assert sup.name == name
        worker = await sup.group(name).start(lambda ctx: ctx.stop.wait(), name=name)
        assert worker.name == f"{name}/{name}"
        assert await sup.run(int, "5", name=name + "-1") == 5


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_name_that_is_made_from_that_of_a_function_has_its_escapes(unfit):
    def function(ctx):
        ctx.stop.wait()

    function.__qualname__ = f"evil{unfit}/function"
    async with Supervisor() as sup:
        worker = await sup.start(functools.partial(function))
        assert worker.name.isprintable()
        assert worker.name.startswith("evil")
        assert worker.name.endswith("_function-1")


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_reason_is_one_line_wherever_it_comes_from(unfit):
    reasons = []

    def waits(ctx):
        ctx.stop.wait()
        reasons.append(ctx.reason)

    shown = f"why {unfit}".encode("unicode_escape").decode()
    async with Supervisor() as sup:
        await (await sup.start(waits)).stop(f"why {unfit}")
        group = sup.group("feeds")
        await group.start(waits)
        reasons.append((await group.shutdown(reason=f"why {unfit}")).reason)
        await sup.start(waits)
        sup.request_shutdown(f"why {unfit}")
        reasons.append((await sup.wait_closed()).reason)
    assert reasons == [shown] * 5
