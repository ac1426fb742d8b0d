"""A service that tells systemd how it is, to be signalled: `python -m tests.observe.service`."""

import asyncio
import os
import time

from supervisor import Ask, EscalationPolicy, Inject, Supervisor
from supervisor.systemd import notify


def deaf(ctx):
    while True:
        time.sleep(0.001)


def environment():
    return [name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))]


async def main():
    policy = EscalationPolicy(Ask(0.2), Inject(10))
    async with Supervisor("service", policy=policy, shutdown_timeout=15) as sup:
        service = notify(sup)
        signalled = asyncio.create_task(sup.wait_for_signal())
        await sup.start(deaf, name="deaf")
        print(environment(), await sup.run(environment, kind="process"), flush=True)
        service.ready("one worker")
        await signalled


if __name__ == "__main__":
    asyncio.run(main())
