"""A process that SIGKILL has ended was killed, and not abandoned, however little time was left."""

import pytest

from supervisor import EscalationPolicy, Kill, Supervisor

from ... import inside


def spin(*_):
    while True:
        pass


@pytest.mark.parametrize("timeout", [0, 0.02, 0.1])
async def test_it_is_reported_as_killed(timeout):
    sup = Supervisor()
    for _ in range(3):
        await sup.start(spin, kind="process")
    report = await sup.shutdown(timeout=timeout)
    assert {outcome.ended for outcome in report.outcomes} <= {"killed", "terminated", "injected"}
    assert inside.processes(sup) == []


async def test_also_where_its_policy_gives_it_no_time(events):
    async with Supervisor() as sup:
        worker = await sup.start(spin, kind="process", policy=EscalationPolicy(Kill(0)))
        assert (await worker.stop()).ended == "killed"
