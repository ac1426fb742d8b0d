"""Interrupts at each line of the library that the event loop's thread comes to, one after the other."""

import asyncio
import linecache
import re
import sys
from collections import Counter

LIMIT = 10
"""Seconds after which something was lost."""

# The interpreter looks for signals after calls, at a function's entry and on a loop's back edge. A tracer strikes
# elsewhere too: at the `try` itself, at plain stores, and on leaving a `with` before its lock is released.
DEAF = re.compile(r"(with |try:|[\w.]+ = (True|False|None|[\w.]+)$)")


class Striker:
    """Raises KeyboardInterrupt at the n-th line that the loop's thread executes in the supervisor's callbacks.

    Where it says how `often`, each line counts only so many times.
    """

    def __init__(self, strike_at, where, often=None):
        self.strike_at = strike_at
        self.often = often
        self.met = Counter()
        self.files = {module.__file__ for module in where.modules}
        self.functions = where.functions
        self.lines = 0
        self.struck = None

    def trace(self, frame, event, arg):
        code = frame.f_code
        return self.trace_line if code.co_name in self.functions and code.co_filename in self.files else None

    def trace_line(self, frame, event, arg):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and self.struck is None and not DEAF.match(line):
            self.met[frame.f_code, frame.f_lineno] += 1
            if self.often is not None and self.met[frame.f_code, frame.f_lineno] > self.often:
                return self.trace_line
            self.lines += 1
            if self.lines == self.strike_at:
                self.struck = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.trace_line


def run_struck(strike_at, where, scenario, often=None):
    """Runs a scenario on a loop that goes on after the interrupt, as asyncio.run does for its own teardown."""
    loop = asyncio.new_event_loop()
    striker = Striker(strike_at, where, often)
    previous = sys.gettrace()  # that of coverage
    try:
        task = loop.create_task(scenario(striker))
        while not task.done():
            try:
                loop.run_until_complete(task)
            except KeyboardInterrupt:
                sys.settrace(None)
        return striker, task.result()
    finally:
        sys.settrace(None)
        left = asyncio.all_tasks(loop)  # or the collector would end them at some line of the next scenario
        for other in left:
            other.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        sys.settrace(previous)
        loop.close()


def strike_everywhere(scenario, where, often=None, least=20):
    """Runs a scenario again and again, struck at the next line each time, until it has come to an end unharmed."""
    assert not where.missing()
    strike_at, missed, struck = 0, 0, set()
    while missed < 2 and strike_at < 1000:
        strike_at += 1
        striker, _ = run_struck(strike_at, where, scenario, often)
        missed += striker.struck is None
        struck.add(striker.struck)
    assert len(struck) > least, "the interrupts did not strike"
