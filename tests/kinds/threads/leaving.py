"""Run as a program: a worker is stuck in something when the program ends, which is to end with its own status, 3."""

import asyncio
import logging
import os
import sys

import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

LARGE = "x" * (1 << 20)

read, write = os.pipe()
text = os.fdopen(write, "w")
data = os.fdopen(os.dup(write), "wb")
reading = os.fdopen(read, "rb")
logging.getLogger("stuck").addHandler(logging.StreamHandler(text))

STUCK = {
    "input": input,
    "stdin": lambda: sys.stdin.readline(),
    "stdin.buffer": lambda: sys.stdin.buffer.readline(),
    "stdout": lambda: print(LARGE),
    "stdout.buffer": lambda: sys.stdout.buffer.write(LARGE.encode()),
    "stderr": lambda: sys.stderr.write(LARGE),
    "text": lambda: text.write(LARGE),
    "data": lambda: data.write(LARGE.encode()),
    "reading": lambda: reading.read(1 << 24),
    "logging": lambda: logging.getLogger("stuck").error(LARGE),
}
"""What blocks for ever, in functions that have a lock meanwhile."""


def drop(*_):
    raise structlog.DropEvent


async def main(what, how):
    async with Supervisor(policy=EscalationPolicy(Ask(0.05), Inject(0.1))) as sup:
        if how == "start":
            await sup.start(lambda _: STUCK[what]())
        else:
            call = asyncio.ensure_future(sup.run(STUCK[what]))
            call.add_done_callback(lambda call: call.exception())
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    structlog.configure(processors=[drop])
    asyncio.run(main(*sys.argv[1:]))
    sys.exit(3)
