"""Whatever call of a function fails, in the owner or in a worker process: all is resolved, and nothing is left."""

import os
import random
import time

import pytest

from .faults.matrix import Campaign

SECONDS = 200
"""How long new faults are begun."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_call_fails_all_is_resolved_in_time_and_nothing_is_left(tmp_path):
    seed = int(os.environ.get("SUPERVISOR_SEED") or random.randrange(1_000_000))
    print(f"SUPERVISOR_SEED={seed}")
    campaign = Campaign(tmp_path)
    plan = [(kind, fault) for kind in ("thread", "process") for fault in campaign.faults(kind)]
    random.Random(seed).shuffle(plan)
    campaign.run(plan, until=time.monotonic() + SECONDS)
    print(campaign.figures(len(plan)))
    assert not campaign.findings, campaign.figures(len(plan))


@pytest.mark.timeout(900)
def test_some_of_them(tmp_path):
    campaign = Campaign(tmp_path, late=5)  # other tests run beside it
    lots = {lot_of(fault): ("process", fault) for fault in campaign.faults("process") if fault[2] == 1}
    campaign.run([lots[lot] for lot in sorted(lots)[:8]], side_by_side=2, size=4)
    assert campaign.injected
    assert not campaign.findings


def lot_of(fault):
    """Draws one lot for all calls of a function by a module. Lots stay the same, whatever lines they stand in."""
    role, site, _, error, lasts = fault
    module, _, _, name = site.split(":", 3)
    return random.Random(f"5 {role} {module} {name} {error} {lasts}").random()
