"""A service that takes jobs, and ends those that it has taken before it stops.

    python examples/job_queue.py

Stop it with Ctrl-C or SIGTERM: it takes no more jobs, and has 5 seconds to end those that run and those that wait. A
second signal ends that at once. The last lines say how many jobs there were, and what became of them.
"""

import asyncio
import time
from itertools import count

from supervisor import Supervisor, WorkerStopped


def carry_out(number: int) -> int:
    time.sleep(0.1)  # the work of one job
    return number


async def job(sup: Supervisor, number: int) -> bool:
    try:
        await sup.run(carry_out, number, name=f"job {number}")
    except WorkerStopped:
        return False  # it is to be done by the next instance
    return True


async def main() -> None:
    jobs: list[asyncio.Task[bool]] = []
    async with Supervisor("jobs", signals=True, max_threads=4, drain=5) as sup:
        print("running; stop it with Ctrl-C", flush=True)
        for number in count(1):
            jobs.append(asyncio.create_task(job(sup, number)))
            await asyncio.sleep(0.01)  # more than 4 threads can do: some wait
    done = await asyncio.gather(*jobs)
    print(f"{len(jobs)} jobs taken, {sum(done)} done")
    print(sup.report)


if __name__ == "__main__":
    asyncio.run(main())
