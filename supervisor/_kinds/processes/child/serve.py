"""In a worker process: takes calls one at a time, and listens for its owner while it carries them out."""

from __future__ import annotations

import _thread
import os
import sys
from _contextvars import copy_context
from _pickle import dumps, loads

from ...._core.errors import RemoteError, SupervisorMisused, described
from ...._worker.current import entered, fire, shielded
from ...._worker.remote_errors import opened, provable, traced, unsendable
from ..wire import Receiver, framed, laid_aside, message, write
from . import FOLDER
from .backend import ChildBackend, name_of
from .gate import MAIN_THREAD, Gate
from .lookout import Lookout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ...._worker.backend import Answer
    from ..wire import Buffers, Part
    from .forward import Forwarder
else:
    import _signal  # the module of C

__all__ = ["Child", "flush", "leave"]

GRANT_TIMEOUT = 5.0
"""Seconds that `ctx.extend` waits for the owner's answer."""

GRANTED = 3
"""Parts of the answer to `ctx.extend`: its lock, the seconds, and when the grace ends."""

AWAITED = ("structlog", "multiprocessing", "multiprocessing.connection", "multiprocessing.resource_tracker")
"""Modules after whose import by a function something is to be done."""

FLUSH_TIMEOUT = 0.5
"""Seconds that a process which leaves waits for an owner that is slow to take its last log events."""


class Child:
    """The process: its main thread takes calls, another one listens for stops.

    Attributes:
        gate: Lets injections through to the function that runs.
        lock: Guards `backend`, and the parts of it that both threads use.
        backend: That of the call that is carried out, or None.
        owners_main: Where the owner's main module is, until it has been imported here.
        life: The end of a pipe that ends with the owner.
        logs: What forwards log events, once a function has imported structlog.
        rename: Gives the process a name, once multiprocessing has been imported, which has names for processes.
        forked: This is a copy that a function has forked: the sockets and the other thread have stayed behind.
        signalled: The number of the call that the last signal was for which the owner has sent by a message.
    """

    def __init__(self, data: int, control: int, life: int) -> None:
        self.life = life
        self.gate = Gate()
        self.lock = _thread.allocate_lock()
        self.backend: ChildBackend | None = None
        self._data = data
        self._control = control
        self._saying = _thread.allocate_lock()
        self._early: tuple[Any, ...] | None = None
        self._answers: dict[int, list[Any]] = {}
        self._asked = 0
        self.owners_main: dict[str, Any] = {}
        self.logs: Forwarder | None = None
        self.forked = False
        self.signalled: int | None = None
        self._until: float | None = None  # when its owner must be taken for dead if it has said nothing new
        self._misfit: OSError | None = None  # why it is not in the folder in which its owner is
        self.rename: Callable[[str], object] | None = None
        sys.meta_path.insert(0, _ImportHook(self))

    # -------------------------------------------------------------------------------- the main thread

    def serve(self) -> None:
        """Carries out calls until the owner sends no more."""
        receiver = Receiver(Lookout(self._data).read)
        while True:
            frame = None if receiver.holds else receiver.read_one()
            while frame is None:  # it is large, or more than one has come, or none
                frame = receiver.take()
                if frame is None and receiver.feed() == 0:
                    if self.logs is not None:
                        self.logs.flush(FLUSH_TIMEOUT)
                    return
            self._carry_out(*frame)
            del frame

    def _carry_out(self, pickle: Part, buffers: Buffers) -> None:
        try:
            call = self.unpickled(pickle, buffers)
            if call[0] == "surroundings":
                from .surroundings import take_over  # noqa: PLC0415  # lean

                self._misfit = take_over(*call[1:])
                return
            number, name, attempt, own, fn, args, before_call = call
        except BaseException as error:
            text = f"the call cannot be unpickled in its process: {described(error)}"
            self._answer(None, False, RemoteError(text), traced(error, FOLDER))
            return
        if self.forked:
            leave(None)
        if self._misfit is not None:
            text = f"the folder of its owner cannot be entered: {described(self._misfit)}"
            self._answer(number, False, RemoteError(text), None)
            return
        restore = None if before_call is None else self._guarded(before_call, name, attempt)
        backend = ChildBackend(self, number, name, attempt)
        with self.lock:
            self.backend = backend
            if self._early is not None and self._early[0] == number:
                _, backend.asked, backend.ends_at = self._early
        entered(backend)
        if self.rename is not None:
            self.rename(name)
        if own is not None:
            write(self._data, message("entered", number))
            if own:
                args = (backend.worker_context(), *args)
        value, raised = self.gate.run(copy_context().run, (fn, *args))  # what it sets is not for the next one
        if self.forked:
            leave(raised)
        with self.lock:
            self.backend = None
        entered(None)
        if restore is not None:
            self._guarded(restore, name, attempt)
        if self.gate.unused > 0 and raised is None and not self.gate.struck:
            from ...._worker.unused_shield import warn_of_unused_shield  # noqa: PLC0415  # lean

            raised = warn_of_unused_shield(name, fn)
        if self.gate.struck:  # faster than the message that says so
            self._report_blocked(backend)
        if backend.ctx is not None or backend.outlet is not None:
            backend.let_go()
        del pickle, buffers, fn, args
        if raised is None:
            self._answer(number, True, value, None)
        else:
            self._answer(number, False, *provable(raised, FOLDER))
        value = raised = None  # the frames of the function hold this one, and so the error would hold itself

    def _guarded(self, subscriber: Callable[[], Any], name: str, attempt: int) -> Any:
        """Calls what a subscriber of the owner wants called here, outside the gate; its error harms nobody."""
        try:
            return subscriber()
        except BaseException as error:
            event = {"event": "supervisor.listener_failed", "listener": name_of(subscriber)}
            data = dumps({**event, "exc_info": RemoteError(traced(error, FOLDER))}, 5)
            self.say("log", name, attempt, "error", event["event"], data)
            return None

    def unpickled(self, data: Any, buffers: Any = ()) -> Any:
        """Unpickles what the owner sent; imports its main module first where that is needed."""
        try:
            return loads(data, buffers=buffers) if buffers else loads(data)
        except (AttributeError, ModuleNotFoundError) as error:
            # The other name is that of the main module in an owner that is a worker itself.
            elsewhere = isinstance(error, ModuleNotFoundError) and error.name != "__mp_main__"
            if elsewhere or not self.owners_main:
                raise
            from .main_module import import_main  # noqa: PLC0415  # lean

            import_main(self.owners_main, error)
            return loads(data, buffers=buffers)

    def _answer(self, number: int | None, ok: bool, value: Any, trace: str | None) -> None:
        said = ("ended", number, ok, laid_aside(value), trace)
        buffers: list[Any] = []
        try:
            try:
                data = dumps(said, 5, buffer_callback=buffers.append)
            except Exception:
                if "cloudpickle" not in sys.modules:
                    raise
                buffers.clear()  # its function may have come by value, and so may go classes of its module
                data = sys.modules["cloudpickle"].dumps(said, 5, buffer_callback=buffers.append)
            parts = framed(data, [item.raw() for item in buffers] if buffers else ())
        except BaseException as error:
            text = f"the result cannot be pickled: {described(error)}"
            parts = message("ended", number, False, RemoteError(text), traced(error, FOLDER))
        if self.forked:
            leave(None)
        flush()
        write(self._data, parts)

    # -------------------------------------------------------------------------------- after a fork

    def become_a_copy(self, files: tuple[int, ...]) -> None:
        """A function has forked, and this is the child: it serves nobody, and what it shares with the worker is closed.

        The locks are new: the thread that held one may have stayed behind.

        Args:
            files: What is to be closed besides the sockets.
        """
        self.forked = True
        self.lock = _thread.allocate_lock()
        self._saying = _thread.allocate_lock()
        for fd in (self._data, self._control, *files):
            try:
                os.close(fd)
            except OSError:  # noqa: PERF203  # the function has closed it
                pass
        self._data = self._control = -1
        self.gate.deferred = None
        self.backend = None
        entered(None)
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _ImportHook)]
        if self.logs is not None:
            self.logs.forked = True

    # -------------------------------------------------------------------------------- the control thread

    def listen(self) -> None:
        """Hears what the owner has to say, for as long as there is one."""
        receiver = Receiver(self._hear)
        while True:
            while (frame := receiver.take()) is None:
                if receiver.feed() == 0:
                    os.killpg(0, _signal.SIGKILL)  # where there is no lifeline, this is one
            what, *rest = loads(frame[0])
            if what == "stop":
                self._stop(*rest)
            elif what == "step":
                self._step(*rest)
            elif what in ("granted", "answered"):
                self._answered(*rest)
            elif what == "taken" and (backend := self.backend) is not None:
                backend.taken(*rest)
            elif what == "until":
                (self._until,) = rest
            elif what == "signal":
                self.signalled, number = rest  # first: its handler looks at it, and whoever is entered later
                _signal.pthread_kill(MAIN_THREAD, number)

    def _hear(self, view: memoryview) -> int:
        """Reads what the owner says; kills this process and its group where it may not go on without that."""
        if self._until is not None:
            from .alone import hears_in_time  # noqa: PLC0415  # lean: on the nodes of a cluster only

            if not hears_in_time(self._control, self._until):
                return 0
        return _read(self._control, view)

    def _stop(self, number: int, reason: str, ends_at: float) -> None:
        with self.lock:
            backend = self.backend
            if backend is None or backend.number != number:
                self._early = (number, reason, ends_at)  # the call is on its way, or over
                return
            backend.ends_at = ends_at
            backend.asked = reason
            ctx = backend.ctx
        if ctx is not None:
            registrations = tuple(ctx.registrations)  # first: it may end at once. Who comes later sees `asked`
            ctx.stop.set()
            ctx.stop.release()
            if registrations:
                _thread.start_new_thread(fire, (ctx, registrations))

    def _step(self, number: int, ends_at: float) -> None:
        """A further step has begun."""
        backend = self.backend
        if backend is None or backend.number != number:
            return
        backend.ends_at = ends_at
        self._report_blocked(backend)

    def _report_blocked(self, backend: ChildBackend) -> None:
        """Reports each callback that still runs, once."""
        ctx = backend.ctx  # the call may end meanwhile
        if ctx is None:
            return
        with self.lock:
            blocked = [each for each in ctx.registrations if each.running and each not in backend.blocked]
            backend.blocked += tuple(blocked)
        for registration in blocked:
            self.say("callback_blocked", backend.name, backend.attempt, name_of(registration.callback))

    def _answered(self, question: int, *parts: Any) -> None:
        answer = self._answers.pop(question, None)
        if answer is not None:
            answer[1:] = parts
            backend = self.backend
            if backend is not None and len(answer) == GRANTED:  # here: the next message may be of a later step
                backend.ends_at = parts[1]
            answer[0].release()

    # -------------------------------------------------------------------------------- any thread

    def pass_on(self, parts: list[Any]) -> None:
        """Sends a part of what the call makes, before its end; one thread at a time."""
        if self.forked:
            raise SupervisorMisused(f"process {os.getpid()} was forked by a worker: what it makes is nobody's")
        write(self._data, parts)

    def say(self, *parts: Any) -> None:
        """Sends the owner a message that cannot wait for the end of the call."""
        self.send(message(*parts))

    def send(self, parts: list[Any]) -> None:
        if self.forked:
            raise SupervisorMisused(
                f"process {os.getpid()} was forked by a worker: it cannot ask the worker's supervisor"
            )
        with self._saying:
            write(self._control, parts)

    def stamp(self) -> tuple[str, int]:
        """Whose log event this is."""
        backend = self.backend
        return ("", 0) if backend is None else (backend.name, backend.attempt)

    def ask(self, what: str) -> Any:
        """Asks the owner for what multiprocessing hands to its children; None where it has no such thing."""
        if self.forked:
            return None
        question, answer = self._question(None)
        self.say("ask", what, question)
        answer[0].acquire()
        return answer[1]

    def ask_for_more(self, backend: ChildBackend, seconds: float) -> float:
        if backend.asked is None and not self.forked:
            return 0.0
        question, answer = self._question(0.0, backend.ends_at)
        self.say("extend", backend.number, seconds, question)
        answer[0].acquire(True, GRANT_TIMEOUT)
        self._answers.pop(question, None)
        granted = answer[1]
        return float(granted)

    def call_loop(self, backend: ChildBackend, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the owner's event loop call a function, and waits for the answer, which is certain to come."""
        try:
            data = dumps((fn, args), 5)
        except Exception as error:
            raise unsendable(name_of(fn), error) from error
        question, answer = self._question()
        self.say("call", backend.number, question, name_of(fn), cleanup, data)
        answer[0].acquire()
        _, how, data, trace = answer
        return opened(name_of(fn), how, lambda: self.unpickled(data), trace, f"process {os.getppid()}")

    def _question(self, *default: Any) -> tuple[int, list[Any]]:
        """Returns the number of a new question, and where its answer will stand, behind a lock that it releases."""
        answer: list[Any] = [_thread.allocate_lock(), *default]
        answer[0].acquire()
        with self.lock:
            self._asked += 1
            self._answers[self._asked] = answer
            return self._asked, answer


class _ImportHook:
    """Once a function imports a module that concerns the owner, what is to be done then is loaded, and done."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in AWAITED:
            return None
        with shielded():
            from .imports import spec_of  # noqa: PLC0415  # lean

            return spec_of(self._child, self, name, path, target)


def _read(fd: int, view: memoryview) -> int:
    """Reads from a socket; an owner that has gone without reading all that was sent has come to its end, too."""
    try:
        return os.readv(fd, [view])
    except ConnectionError:
        return 0


def leave(raised: BaseException | None) -> NoReturn:
    """Ends a process that a function has forked, once it comes out of the function, as the end of a program does."""
    code: Any = 0
    if isinstance(raised, SystemExit):
        code = raised.code if raised.code is not None else 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    elif raised is not None:
        sys.excepthook(type(raised), raised, raised.__traceback__)
        code = 1
    flush()
    os._exit(code & 0xFF)


def flush() -> None:
    """What the function printed is to be seen before its call is over, also what C code printed."""
    global _flush_c  # noqa: PLW0603
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S110  # the function has closed it
            pass
    if _flush_c is None:
        from .c_output import flusher  # noqa: PLC0415  # lean

        _flush_c = flusher()
    _flush_c()


_flush_c: Callable[[], object] | None = None
