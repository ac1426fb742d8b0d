"""For the tests of those who use the library: a quick ladder, virtual time, fake workers, a check for leaks.

With pytest all of it comes as fixtures, by the plugin that is installed with the library; nothing here needs pytest.
"""

from __future__ import annotations

from .fake_kind import FakeRun
from .fakes import FakeWorkers
from .leaks import LeakCheck
from .quick import QUICK_LADDER
from .virtual_time import VirtualTime

__all__ = ["QUICK_LADDER", "FakeRun", "FakeWorkers", "LeakCheck", "VirtualTime"]
