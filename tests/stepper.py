"""Threads that stand still at a line of the library's own code, until they are told to go on."""

import linecache
import sys
import threading


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
