"""What runs in a worker process: takes calls one at a time, and listens for its supervisor while it carries them out.

The first thing it does is to tie its life to its owner's. It imports as little as it can, and modules of C in place of
their Python faces where these cost milliseconds: a process is up in the time that the interpreter takes to start.
"""

from __future__ import annotations

import _thread
import os
import sys
from _pickle import dumps, loads

from ...._core.errors import RemoteError, StopInjected, described
from ...._worker.context import WorkerContext
from ...._worker.current import entered
from ...._worker.stop_event import StopEvent
from ..remote_errors import provable, set_cause, traced
from ..wire import INJECT, STACK, STACK_IN_C, TERMINATE, Receiver, framed, message, write
from .forward import Forwarder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

    from ...._worker.backend import Answer
    from ...._worker.context import Registration
    from ..wire import Frame
else:
    import _signal  # the module of C

__all__ = ["importing_main", "main"]

GRANT_TIMEOUT = 5.0
"""Seconds that `ctx.extend` waits for the owner's answer."""

GRANTED = 3
"""Parts of the answer to `ctx.extend`: its lock, the seconds, and when the grace ends."""

BEAT_INTERVAL = 0.02
"""Seconds within which further heartbeats are not sent."""

DEPTH = 100
"""Frames of a stack that are written, the innermost, as by faulthandler."""

FLUSH_TIMEOUT = 0.5
"""Seconds that a process which leaves waits for an owner that is slow to take its last log events."""

importing_main = False
"""The owner's main module is being imported here, so that functions of it can be found."""


class Gate:
    """Lets the injection signal through to the function that runs, and only while it is unshielded.

    Its handler runs in the main thread, between two bytecodes of whatever frame is there: so what is asked is whether
    that is the frame of the user's function, or below it.
    """

    __slots__ = ("deferred", "depth", "running", "struck")

    def __init__(self) -> None:
        self.running = False
        self.depth = 0
        self.deferred = False
        self.struck = False  # a signal has come for this call

    def on_signal(self, _: int, frame: FrameType | None) -> None:
        if not self.running or frame is None:
            return
        self.struck = True
        if self.depth or frame.f_code in OWN_FRAMES:  # in the latter case, for the next shield that is left
            self.deferred = True
            return
        raise StopInjected

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """Calls the function; returns its value, and what it raised or None. Nothing is raised in this frame."""
        value = error = None
        self.depth = 0
        self.deferred = self.struck = False
        self.running = True
        try:
            value = _call(function, args)
        except BaseException as caught:
            error = caught
        self.running = False
        return value, error


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """A frame in which an injection is raised where the function is C code, which has none."""
    return function(*args)


class Shield:
    """Holds an injection back inside a `with` block of the main thread; nests."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        if _thread.get_ident() != MAIN_THREAD:
            raise RuntimeError("shield(): only the worker's own thread can shield itself")
        self._gate.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate = self._gate
        gate.depth -= 1
        if gate.deferred and not gate.depth:
            gate.deferred = False
            raise StopInjected


class NoShield:
    """Stands in for one in the other threads of a worker."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


OWN_FRAMES = {Gate.run.__code__, Gate.on_signal.__code__, Shield.__enter__.__code__, Shield.__exit__.__code__}
MAIN_THREAD = _thread.get_ident()


class ChildBackend:
    """One call, and what it can ask of its supervisor."""

    kind = "process"

    def __init__(self, child: Child, number: int, name: str, attempt: int) -> None:
        self._child = child
        self.number = number
        self.name = name
        self.attempt = attempt
        self.reason: str | None = None
        self.ends_at = INFINITY
        self.beat_at = 0.0
        self.ctx: WorkerContext | None = None
        self.blocked: list[Registration] = []  # those that the owner was told of

    def worker_context(self) -> WorkerContext:
        """Returns the call's context, made when it is first asked for."""
        if self.ctx is None:
            with self.own_shield(), self._child.lock:
                if self.ctx is None:
                    self.ctx = WorkerContext(self, StopEvent())  # type: ignore[arg-type]
                    if self.reason is not None:
                        self.ctx.stop.set()
        return self.ctx

    def shield(self) -> Shield:
        return Shield(self._child.gate)

    def own_shield(self) -> Shield | NoShield:
        return Shield(self._child.gate) if _thread.get_ident() == MAIN_THREAD else NoShield()

    def ready(self) -> None:
        self._child.tell("readied", self.number)

    def heartbeat(self) -> None:
        from time import monotonic  # noqa: PLC0415  # lean

        now = monotonic()
        if now >= self.beat_at + BEAT_INTERVAL:
            self.beat_at = now
            self._child.tell("beat", self.number)

    def extend(self, seconds: float) -> float:
        return self._child.ask_for_more(self, seconds)

    def remaining(self) -> float:
        from time import monotonic  # noqa: PLC0415  # lean

        return max(0.0, self.ends_at - monotonic())

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        return self._child.call_loop(self, fn, args, cleanup)

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        with self.own_shield():  # half a message must not be sent
            self._child.tell("callback_failed", self.name, _name(callback), traced(error, __file__))


class Child:
    """The process: its main thread takes calls, another one listens for stops.

    Attributes:
        lock: Guards `host`, and the parts of it that both threads use.
        host: The call that is carried out, or None.
    """

    def __init__(self, data: int, control: int) -> None:
        self.gate = Gate()
        self.lock = _thread.allocate_lock()
        self.host: ChildBackend | None = None
        self._data = data
        self._control = control
        self._telling = _thread.allocate_lock()
        self._early: tuple[Any, ...] | None = None
        self._answers: dict[int, list[Any]] = {}
        self._asked = 0
        self._logs = Forwarder(self.send, self._stamp)

    # -------------------------------------------------------------------------------- the main thread

    def serve(self) -> None:
        """Carries out calls until the owner sends no more."""
        receiver = Receiver(lambda view: os.readv(self._data, [view]))
        while True:
            while (frame := receiver.take()) is None:
                if receiver.feed() == 0:
                    self._logs.flush(FLUSH_TIMEOUT)
                    return
            self._carry_out(frame)
            del frame

    def _carry_out(self, frame: Frame) -> None:
        try:
            number, name, attempt, own, fn, args, before_call = _loaded(frame)
        except BaseException as error:
            text = f"the call cannot be unpickled in its process: {described(error)}"
            self._answer(None, False, RemoteError(text), traced(error, __file__))
            return
        restore = None if before_call is None else self._guarded(before_call, name, attempt)
        host = ChildBackend(self, number, name, attempt)
        with self.lock:
            self.host = host
            if self._early is not None and self._early[0] == number:
                _, host.reason, host.ends_at = self._early
        entered(host)
        if own is not None:
            write(self._data, message("entered", number))
            if own:
                args = (host.worker_context(), *args)
        value, raised = self.gate.run(fn, args)
        with self.lock:
            self.host = None
        entered(None)
        if restore is not None:
            self._guarded(restore, name, attempt)
        if self.gate.struck:  # faster than the message that says so
            self._tell_blocked(host)
        del frame, fn, args
        if raised is None:
            self._answer(number, True, value, None)
        else:
            self._answer(number, False, *provable(raised, __file__))

    def _guarded(self, listener: Callable[[], Any], name: str, attempt: int) -> Any:
        """Calls what a listener of the owner wants called here, outside the gate; its error harms nobody."""
        try:
            return listener()
        except BaseException as error:
            event = {"event": "supervisor.listener_failed", "listener": _name(listener)}
            self.tell("log", name, attempt, "error", {**event, "exc_info": RemoteError(traced(error, __file__))})
            return None

    def _answer(self, number: int | None, ok: bool, value: Any, trace: str | None) -> None:
        buffers: list[Any] = []
        try:
            parts = framed(
                dumps(("ended", number, ok, value, trace), 5, buffer_callback=buffers.append),
                [item.raw() for item in buffers],
            )
        except BaseException as error:
            text = f"the result cannot be pickled: {described(error)}"
            parts = message("ended", number, False, RemoteError(text), traced(error, __file__))
        _flush()
        write(self._data, parts)

    # -------------------------------------------------------------------------------- the control thread

    def listen(self) -> None:
        """Hears what the owner has to say, for as long as there is one."""
        receiver = Receiver(lambda view: os.readv(self._control, [view]))
        while True:
            while (frame := receiver.take()) is None:
                if receiver.feed() == 0:
                    os.killpg(0, _signal.SIGKILL)  # where there is no lifeline, this is one
            word, *rest = loads(frame.pickle)
            if word == "stop":
                self._stop(*rest)
            elif word == "step":
                self._step(*rest)
            elif word in ("granted", "answered"):
                self._answered(*rest)

    def _stop(self, number: int, reason: str, ends_at: float) -> None:
        with self.lock:
            host = self.host
            if host is None or host.number != number:
                self._early = (number, reason, ends_at)  # the call is on its way, or over
                return
            host.ends_at = ends_at
            host.reason = reason
            ctx = host.ctx
        if ctx is not None:
            ctx.stop.set()
            ctx.stop.release()
            if ctx.registrations:
                _thread.start_new_thread(_fire, (ctx.registrations, host))

    def _step(self, number: int, ends_at: float) -> None:
        """A further step has begun."""
        host = self.host
        if host is None or host.number != number:
            return
        host.ends_at = ends_at
        self._tell_blocked(host)

    def _tell_blocked(self, host: ChildBackend) -> None:
        """Tells of each callback that still runs, once."""
        if host.ctx is None:
            return
        with self.lock:
            blocked = [each for each in host.ctx.registrations if each.running and each not in host.blocked]
            host.blocked += blocked
        for registration in blocked:
            self.tell("callback_blocked", host.name, _name(registration.callback))

    def _answered(self, question: int, *parts: Any) -> None:
        answer = self._answers.pop(question, None)
        if answer is not None:
            answer[1:] = parts
            host = self.host
            if host is not None and len(answer) == GRANTED:  # here: the next message may be of a later step
                host.ends_at = parts[1]
            answer[0].release()

    # -------------------------------------------------------------------------------- any thread

    def tell(self, *parts: Any) -> None:
        """Tells the owner what cannot wait."""
        self.send(message(*parts))

    def send(self, parts: list[Any]) -> None:
        with self._telling:
            write(self._control, parts)

    def _stamp(self) -> tuple[str, int]:
        """Whose log event this is."""
        host = self.host
        return ("", 0) if host is None else (host.name, host.attempt)

    def ask_for_more(self, host: ChildBackend, seconds: float) -> float:
        if host.reason is None:
            return 0.0
        question, answer = self._question(0.0, host.ends_at)
        self.tell("extend", host.number, seconds, question)
        answer[0].acquire(True, GRANT_TIMEOUT)
        self._answers.pop(question, None)
        granted = answer[1]
        return float(granted)

    def call_loop(self, host: ChildBackend, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the owner's event loop call a function, and waits for the answer, which is certain to come."""
        try:
            data = dumps((fn, args), 5)
        except Exception as error:
            raise TypeError(
                f"call(fn={_name(fn)}): cannot be sent to the supervisor's process: {error}. Give a function of a "
                "module, and arguments that can be pickled"
            ) from error
        question, answer = self._question()
        self.tell("call", host.number, question, _name(fn), cleanup, data)
        answer[0].acquire()
        _, how, data, trace = answer
        try:
            what = _unpickled(data)
        except BaseException as error:
            text = f"what came of {_name(fn)}() cannot be unpickled in the worker's process: {described(error)}"
            return "error", RemoteError(text)
        if trace is not None:
            set_cause(what, RemoteError(f"in process {os.getppid()}:\n{trace}"))
        return how, what

    def _question(self, *default: Any) -> tuple[int, list[Any]]:
        """Returns the number of a new question, and where its answer will stand, behind a lock that it releases."""
        answer: list[Any] = [_thread.allocate_lock(), *default]
        answer[0].acquire()
        with self.lock:
            self._asked += 1
            self._answers[self._asked] = answer
            return self._asked, answer


def _fire(registrations: list[Registration], host: ChildBackend) -> None:
    for registration in tuple(registrations):
        try:
            registration.fire()
        except BaseException as error:  # sys.exit() in a callback, say: the worker goes on
            host.callback_failed(registration.callback, error)


# ------------------------------------------------------------------------------------------------ what comes and goes


def _loaded(frame: Frame) -> tuple[Any, ...]:
    return _unpickled(frame.pickle, frame.buffers)  # type: ignore[no-any-return]


def _unpickled(data: Any, buffers: Any = ()) -> Any:
    """Unpickles what the owner sent; imports its main module first where that is needed."""
    try:
        return loads(data, buffers=buffers)
    except AttributeError:
        if not _import_main():
            raise
        return loads(data, buffers=buffers)


def _name(callback: Callable[..., object]) -> str:
    name = getattr(callback, "__qualname__", None)
    return name if isinstance(name, str) else type(callback).__qualname__


def _flush() -> None:
    """What the function printed is to be seen before its call is over."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S110  # the function has closed it
            pass


# ------------------------------------------------------------------------------------------------ the beginning

INFINITY = float("inf")

_main_of_owner: dict[str, Any] = {}


def main() -> None:
    """Runs a worker process; its command line has the numbers of the files that it was given."""
    data, control, life, errors, stack = map(int, sys.argv[1:6])
    for fd in (data, control, life, errors, stack):
        os.set_inheritable(fd, False)
    _tie_to(life)
    child = Child(data, control)
    _set_signals(child.gate, stack)
    first = _first_frame(data)
    sys.path[:] = first["path"]
    sys.argv[:] = first["argv"]
    _main_of_owner.update(first["main"])
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    _thread.start_new_thread(child.listen, ())
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.dup2(errors, 2)
    os.close(errors)
    write(data, message("ready"))
    child.serve()
    _flush()
    os._exit(0)


def _tie_to(life: int) -> None:
    """Has the kernel kill this process and all of its group once the owner is gone, whatever they do.

    Nobody ever writes to the pipe; its end is the event. Linux alone can send SIGKILL for it; elsewhere the control
    thread finds its socket closed.
    """
    import fcntl  # noqa: PLC0415  # not on Windows
    import select  # noqa: PLC0415

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life, fcntl.F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life], [], [], 0)[0]:
        os._exit(1)  # the owner is gone already


def _set_signals(gate: Gate, stack: int) -> None:
    """Private signals do what the owner wants; the public ones, which others send to everybody, do nothing.

    They have handlers rather than being ignored: what a worker starts would inherit that.
    """
    import faulthandler  # noqa: PLC0415  # a module of C

    _signal.signal(_signal.SIGINT, _nothing)
    _signal.signal(_signal.SIGTERM, _nothing)
    _signal.signal(INJECT, gate.on_signal)
    _signal.signal(TERMINATE, _signal.SIG_DFL)

    def say_where(_: int, frame: FrameType | None) -> None:  # as faulthandler does; without looking at any file
        lines = ["Stack:"]
        while frame is not None:
            if len(lines) > DEPTH:
                lines.append("  ...")
                break
            lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
            frame = frame.f_back
        os.write(stack, "\n".join([*lines, ""]).encode(errors="replace"))

    _signal.signal(STACK, say_where)
    _signal.siginterrupt(STACK, False)
    # faulthandler reads frames whatever the interpreter is about, and has crashed it (once in some thousand times, on
    # 3.12 and 3.13): it is for those that are in C code, whose frames stand still.
    faulthandler.register(STACK_IN_C, file=stack, all_threads=False)


def _nothing(_: int, __: FrameType | None) -> None:
    pass


def _first_frame(data: int) -> dict[str, Any]:
    receiver = Receiver(lambda view: os.readv(data, [view]))
    while (frame := receiver.take()) is None:
        if receiver.feed() == 0:
            os._exit(1)
    return loads(frame.pickle)[0]  # type: ignore[no-any-return]


def _import_main() -> bool:
    """Makes the functions of the owner's main module importable, as spawned processes do; False where that is done."""
    global importing_main  # noqa: PLW0603
    if not _main_of_owner:
        return False
    import runpy  # noqa: PLC0415  # lean
    import types  # noqa: PLC0415

    where = _main_of_owner
    module = types.ModuleType("__mp_main__")
    importing_main = True
    try:
        if "name" in where:
            names = runpy.run_module(where["name"], run_name="__mp_main__", alter_sys=True)
        else:
            names = runpy.run_path(where["path"], run_name="__mp_main__")
    finally:
        importing_main = False
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    where.clear()
    return True
