"""A service that the command line looks into: `python -m tests.cli.service NAME CONTROL [--blocked SECONDS]`.

It says "up" once its workers are, and ends with its supervisor. "-" as CONTROL is `True`.
"""

import argparse
import asyncio
import time

from supervisor import Ask, Control, EscalationPolicy, Inject, Restart, Supervisor


def wait(ctx):
    ctx.stop.wait()


def stubborn(ctx):
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


def fail():
    raise ValueError("no such row")


async def main(options):
    control = Control(None if options.control in "-w" else options.control, write=options.write)
    ladder = EscalationPolicy(Ask(options.grace), Inject(options.grace))
    patient = EscalationPolicy(Ask(20))  # who obeys has the time for it on any machine
    async with Supervisor(options.name, control=control, policy=patient, signals=True) as sup:
        await sup.group("feeds").start(wait, name="reader", restart=Restart("failure"))
        if options.stubborn:
            await sup.start(stubborn, name="stubborn", policy=ladder)
        for number in range(options.workers):
            await sup.start(wait, name=f"worker-{number}")
        calls = [
            asyncio.ensure_future(sup.run(time.sleep, 600, name=f"call-{n}", policy=ladder))
            for n in range(options.calls)
        ]
        await asyncio.gather(sup.run(fail, name="failing"), return_exceptions=True)
        while sum("ctx.stop.wait()" in stack for stack in sup.stacks().values()) <= options.workers:
            await asyncio.sleep(0.01)
        print("up", flush=True)
        if options.blocked:
            time.sleep(options.blocked)
        await asyncio.gather(*calls, return_exceptions=True)
        await sup.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("control")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--grace", type=float, default=0.5)
    parser.add_argument("--blocked", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--calls", type=int, default=0)
    asyncio.run(main(parser.parse_args()))
