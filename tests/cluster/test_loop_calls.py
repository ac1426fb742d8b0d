"""`ctx.call` of workers on nodes, beyond what the contract tests say of it for all kinds."""

import asyncio
import subprocess
import sys

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, SupervisorError

from ..inside_cluster import drop_connection
from ..programs import ROOT, run_program
from ..waiting import until
from . import functions as f

PATIENT = EscalationPolicy(Ask(5))

MAIN = """
import asyncio, sys
from supervisor import Supervisor, current_context

prices = {}

async def price(name):
    await asyncio.sleep(0)
    return prices[name]

class Order:
    def __init__(self, names):
        self.names = names

def total_of(order):
    return sum(prices[name] for name in order.names)

def total(names):
    ctx = current_context()
    return ctx.call(total_of, Order(names)), sum(ctx.call(price, name) for name in names)

async def main():
    prices.update(tea=2.5, rice=4.0)  # here alone
    async with Supervisor(cluster=sys.argv[1]) as sup:
        for kind in ("thread", "process"):
            print(await sup.run(total, ["tea", "rice"], on="cluster", kind=kind))

if __name__ == "__main__":
    asyncio.run(main())
"""

OWNER = """
import asyncio, sys
from pathlib import Path
from supervisor import Ask, EscalationPolicy, Supervisor
from tests.cluster import functions as f

async def main(address, path):
    async with Supervisor(cluster=address, cluster_lease=1) as sup:
        calls = [
            sup.run(f.calls_until_refused, path / kind, on="cluster", kind=kind, policy=EscalationPolicy(Ask(5)))
            for kind in ("thread", "process")
        ]
        await asyncio.gather(*calls)

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def test_functions_of_the_main_module_are_the_owners_own(three, tmp_path):
    script = tmp_path / "shop.py"
    script.write_text(MAIN)
    done = run_program(sys.executable, script, three.address)
    assert (done.stdout.splitlines(), done.stderr) == (["(6.5, 6.5)"] * 2, "")


async def test_what_is_large_comes_there_and_back(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        assert await sup.run(f.calls_with, 5 << 20, on="cluster", kind=kind) == 5 << 20


async def test_a_connection_that_breaks_in_between_loses_no_answer(three, kind):
    release, begun = asyncio.Event(), asyncio.Event()
    gates.update(release=release, begun=begun)
    async with Supervisor(cluster=three.address) as sup:
        task = asyncio.ensure_future(sup.run(calls_gate, on="cluster", kind=kind, nodes="a"))
        await asyncio.wait_for(begun.wait(), 20)
        drop_connection(sup, "a")
        release.set()
        assert await asyncio.wait_for(task, 20) == "released"


gates = {}
"""The events of a test, which the loop's functions find here."""


async def gate():
    gates["begun"].set()
    await gates["release"].wait()
    return "released"


def calls_gate():
    return f.current_context().call(gate)


def test_where_the_owner_was_killed_a_call_says_so_once_the_lease_has_run_out(three, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, three.address, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as owner:
        try:
            asyncio.run(until(lambda: (tmp_path / "thread").exists() and (tmp_path / "process").exists()))
        finally:
            owner.kill()
    _say_that_it_is_closed(tmp_path / "thread", tmp_path / "process")


@pytest.mark.filterwarnings("ignore:.*was never shut down", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_where_the_loop_is_closed_a_call_says_so(three, tmp_path, kind):
    loop = asyncio.new_event_loop()
    sup = Supervisor("left", cluster=three.address, cluster_lease=60)

    async def begin():
        await sup.start(f.calls_until_refused, tmp_path / "run", on="cluster", kind=kind, policy=PATIENT)
        await until((tmp_path / "run").exists)

    loop.run_until_complete(begin())
    loop.close()
    _say_that_it_is_closed(tmp_path / "run")


def _say_that_it_is_closed(*paths):
    for path in paths:
        said = path.with_suffix(".said")
        asyncio.run(until(said.exists))
        for line in said.read_text().splitlines():
            assert line.startswith("SupervisorClosed: ")
            assert "cannot call its event loop" in line


async def test_a_stop_by_the_owner_lets_clean_up_call(three, kind, tmp_path):
    async with Supervisor(cluster=three.address, policy=PATIENT) as sup:
        worker = await sup.start(f.doubles_when_stopped, tmp_path / "began", on="cluster", kind=kind)
        await f.until_there(tmp_path / "began")
        assert (await worker.stop()).value == 42


async def test_a_run_that_is_injected_in_a_call_has_that_cancelled(three, kind, tmp_path):
    policy = EscalationPolicy(Ask(0), Inject(5))
    async with Supervisor(cluster=three.address, policy=policy) as sup:
        task = asyncio.ensure_future(
            sup.run(f.calls_until_refused, tmp_path / "run", on="cluster", kind=kind, name="w")
        )
        await f.until_there(tmp_path / "run")
        await sup.worker("w").stop()
        await asyncio.gather(task, return_exceptions=True)
        await until((tmp_path / "run.cancelled").exists)


async def test_an_initializer_cannot_call_the_loop_and_is_told_so(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        pool = sup.pool("calling", kind=kind, on="cluster", initializer=f.calls_the_loop)
        with pytest.raises(SupervisorError, match=r"call\(fn=pid\)"):
            await asyncio.wait_for(pool.run(f.pid), 20)


async def test_an_async_iterator_stays_where_it_is(three, kind):
    async with Supervisor(cluster=three.address) as sup:
        with pytest.raises(RuntimeError, match="on a node of a cluster: use call"):
            await sup.run(f.iterates_in_the_loop, on="cluster", kind=kind, timeout=20)
