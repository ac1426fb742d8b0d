"""A plugin of pytest: in every event loop, anyio's threads are a supervisor's, from the first call on."""

import asyncio
import sys
import types

from anyio._backends._asyncio import AsyncIOBackend
from anyio.lowlevel import RunVar

from supervisor import Supervisor

installed = RunVar("installed")
counts = {"supervisors": 0, "calls": 0}
plain = AsyncIOBackend.run_sync_in_worker_thread.__func__


def install(loop):
    """Installs a supervisor, which shuts down as the loop is closed."""
    sup = Supervisor("ours")
    sup.install_as_anyio_threads()
    counts["supervisors"] += 1

    def close():
        del loop.close
        if not loop.is_closed():
            loop.run_until_complete(sup.shutdown())
        loop.close()

    loop.close = close


async def run(cls, func, args, abandon_on_cancel=False, limiter=None):
    if not installed.get(False):
        installed.set(True)
        install(asyncio.get_running_loop())
    counts["calls"] += 1
    return await plain(cls, func, args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)


async def try_out():
    async with Supervisor() as sup:
        sup.install_as_anyio_threads()  # which tries anyio out, as it is


def pytest_configure():
    if "trustme" not in sys.modules:
        stand_in = types.ModuleType("trustme")  # for certificates, which tests of threads do not need
        stand_in.CA = object
        sys.modules["trustme"] = stand_in
    asyncio.run(try_out())
    AsyncIOBackend.run_sync_in_worker_thread = classmethod(run)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"installed {counts['supervisors']} supervisors for {counts['calls']} calls")
