"""How much work something is: the lines of the library that the present thread goes through, whatever the machine."""

import sys
from contextlib import contextmanager
from pathlib import Path

import supervisor

HOME = str(Path(supervisor.__file__).parent)

LINEAR = 1.3
"""Each of ten times as many may cost so much more."""


class Work:
    """Counts lines.

    Attributes:
        lines: How many there were.
        longest: How many there were at most in one turn of the loop.
    """

    def __init__(self):
        self.lines = self.longest = 0
        self._began = 0

    def count(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        if event == "line":
            self.lines += 1
        return self.count

    def turn(self):
        """Another turn of the loop begins."""
        self.longest = max(self.longest, self.lines - self._began)
        self._began = self.lines


@contextmanager
def counted():
    """Counts the work of the block in this thread: in what it calls, and in what the loop does while it waits."""
    work, before = Work(), sys.gettrace()
    sys.settrace(work.count)
    try:
        yield work
    finally:
        sys.settrace(before)
        work.turn()


async def each(cost, few=30):
    """Returns the lines for each of ten times as many, divided by those for each of a few: 1 where it is linear.

    Args:
        cost: Is awaited with their number, and returns the Work.
    """
    await cost(few)  # what is done once for all does not count
    less, more = (await cost(few)).lines, (await cost(10 * few)).lines
    return more / (10 * less)
