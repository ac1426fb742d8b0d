"""Threads that stand still at a line of the library's own code, until they are told to go on, or are interrupted."""

import ctypes
import dis
import linecache
import sys
import threading
from collections import deque
from functools import partial
from itertools import chain, repeat, starmap
from operator import not_


class Stepper:
    """Runs a function in a thread of its own, line by line of the code of a line, each when it is told to."""

    def __init__(self, function, line):
        self._function, self._code = function, line.code
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self.line = ""
        self.over = False
        self.error = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self._stands.acquire()

    def step(self):
        self._go.release()
        self._stands.acquire()

    def until(self, line):
        """Goes on until it stands before this line."""
        while not self.line.startswith(line.begins):
            assert not self.over, f"it was over before {line.begins!r}"
            self.step()

    def finish(self):
        while not self.over:
            self.step()
        self.thread.join()

    def _run(self):
        sys.settrace(self._trace)
        try:
            self._function()
        except Exception as error:
            self.error = error
        finally:
            sys.settrace(None)
            self.over = True
            self._stands.release()

    def _trace(self, frame, event, _):
        if frame.f_code is not self._code:
            return None
        if event == "line":
            self.line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            self._stands.release()
            self._go.acquire()
        return self._trace


class Halt:
    """Has the first thread that is started meanwhile, and comes to a line, stand before it until `go`."""

    def __init__(self, line):
        self._line = line
        self.stands, self.go = threading.Event(), threading.Event()
        self.stands_in = None

    def __enter__(self):
        self._before = threading.gettrace()
        threading.settrace(self._trace)
        return self

    def __exit__(self, *_):
        threading.settrace(self._before)
        self.go.set()

    def _trace(self, frame, event, _):
        if frame.f_code is not self._line.code:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and line.startswith(self._line.begins) and not self.stands.is_set():
            self.stands_in = threading.get_ident()
            self.stands.set()
            self.go.wait(20)
        return self._trace


class CheckPoints:
    """Interrupts this thread at some of the points at which the interpreter looks for signals, numbered from 1.

    These are: the entry of a function in Python, what comes after a call of C code, and the back edge of a loop. Needs
    Python 3.12: who has been struck by a tracer is traced no more.

    Args:
        codes: The code that counts.
        strikes: The numbers of the points.

    Attributes:
        places: Where it has struck.
    """

    def __init__(self, codes, *strikes):
        self._codes = codes
        self._names = {(code, step.offset): step.opname for code in codes for step in dis.get_instructions(code)}
        self._strikes = strikes
        self._met = 0
        self._last = None
        self.places = []

    @property
    def struck(self):
        """How often it has."""
        return len(self.places)

    def __enter__(self):
        monitoring = sys.monitoring
        self._tool = next(number for number in range(3, 6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(self._tool, "check points")
        events = monitoring.events
        monitoring.register_callback(self._tool, events.PY_START, self._point)
        monitoring.register_callback(self._tool, events.INSTRUCTION, self._step)
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, events.PY_START | events.INSTRUCTION)
        return self

    def __exit__(self, *_):
        for code in self._codes:
            sys.monitoring.set_local_events(self._tool, code, 0)
        sys.monitoring.free_tool_id(self._tool)

    def _step(self, code, offset):
        last, self._last = self._last, (code, offset)
        if last is None or last[0] is not code or self._names[code, offset] == "PUSH_EXC_INFO":
            return  # after a call that has failed, nobody looks
        if self._names[last].startswith(("CALL", "JUMP_BACKWARD")):
            self._point(code, offset)

    def _point(self, code, offset):
        self._met += 1
        if self._met in self._strikes:
            self.places.append(f"{code.co_qualname}, {self._names[code, offset]} at {offset}")
            raise KeyboardInterrupt


class GivesWay:
    """Has a thread give the interpreter up at the check that comes after a call of C code, to who waits for that.

    The call ends with the interpreter held for so long that who waits demands it, and then is not asked to give it back
    before it waits, however slow the machine. All of this is C code: in Python code, there would be checks of its own.
    Needs Python 3.12.

    Args:
        code: Whose call.
        number: Which of its calls of C code, from 1.

    Attributes:
        there: Is released as the call has ended. It has to be waited for with nothing but `acquire`.
    """

    HELD = [10_000] * 20
    """Microseconds: of a pause of the whole process, one of these is lost."""

    def __init__(self, code, number):
        self._code = code
        self.there = threading.Lock()
        self.there.acquire()
        hold = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_uint)(("usleep", ctypes.pythonapi))
        released = map(not_, starmap(self.there.release, ((),)))
        held = map(not_, starmap(deque, ((map(hold, self.HELD), 0),)))
        kept = map(not_, map(sys.setswitchinterval, (100,)))
        ends = chain(released, held, kept, repeat(0))
        self._ended = self._with_each_argument(chain(repeat(0, (number - 1) * 4), ends))

    @staticmethod
    def _with_each_argument(steps):
        """A callback, in C, that takes a step with each of its four arguments."""
        return partial(max, key=partial(next, steps))

    def __enter__(self):
        self._interval = sys.getswitchinterval()
        monitoring = sys.monitoring
        events = monitoring.events
        self._tool = next(number for number in range(3, 6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(self._tool, "gives way")
        monitoring.register_callback(self._tool, events.CALL, self._with_each_argument(repeat(0)))
        monitoring.register_callback(self._tool, events.C_RETURN, self._ended)
        monitoring.set_local_events(self._tool, self._code, events.CALL)
        return self

    def __exit__(self, *_):
        sys.monitoring.set_local_events(self._tool, self._code, 0)
        sys.monitoring.free_tool_id(self._tool)
        sys.setswitchinterval(self._interval)  # last: no other call changes it any more
