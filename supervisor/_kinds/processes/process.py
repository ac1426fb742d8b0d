"""The owner's end of one worker process: from its launch until it has been reaped."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import weakref
from contextlib import ExitStack, suppress
from pickle import loads
from typing import TYPE_CHECKING, Any, Protocol

from ..._core.errors import RemoteError, described
from ..._loop import aside
from ..._loop.errors import insist, report_error
from ..._worker.remote_errors import set_cause
from .launch import first_frame, launch, no_forks
from .oom import oom_kills
from .probe import Probe, kernels_view
from .reaping import is_dead, reap, reap_forgotten, wait_for_death
from .recycling import Service
from .stream import Stream
from .surroundings import difference, surroundings
from .usage import cpu_seconds
from .wire import INJECT, TERMINATE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from ..._run.loop_call import LoopCall
    from ..._run.run import Run
    from .surroundings import Surroundings
    from .wire import Buffers, Part

__all__ = ["Keeper", "Process"]

LEAVE_TIMEOUT = 1.0
"""Seconds that an idle process has to leave by itself."""

WRITTEN = 1 << 16
"""Bytes of what a process wrote that are shown."""

BEGINNING = 32
"""Bytes of a pickled message in which its name stands, which comes first."""


class Keeper(Protocol):
    """Whose a process is. On the loop's thread."""

    def up(self, process: Process) -> None:
        """It takes calls from now on."""
        ...

    def ended(self, process: Process, number: int | None, ok: bool, value: Any, trace: str | None) -> None:
        """A call has ended there; without a number, it was never understood what was to be called."""
        ...

    def heard(self, process: Process, what: str, details: tuple[Any, ...]) -> None:
        """It has said something else."""
        ...

    def gone(self, process: Process) -> None:
        """It has died, and everything of it has been cleared away."""
        ...


class Process:
    """A worker process. On the loop's thread, but for `stack`.

    Death is what the kernel says of the process itself: its sockets may be held open by what it has started. Then, in
    this order: what it had still sent is heard, its group is killed while the dead leader keeps the group's number from
    being given out again, it is reaped, its files are closed, and the keeper gets to know.

    Attributes:
        pid: Its number.
        run: What it carries out, or is launched for.
        ready: It takes calls.
        retired: It takes no more.
        initialized: It calls the initializer of its pool before it is ready.
        initializing: It does so now, or has died over it.
        failure: What the initializer has raised.
        tries: Which try it is, after others that have died while they started, of what it was launched for.
        service: What it has done for its pool.
        code: Its exit code, negative for a signal; None where it lives, or where somebody else has reaped it.
        oom_killed: It was most likely the kernel's out-of-memory killer that has ended it.
        reaped: It is no more.
        dying: It is no more, but what it has said is still to be heard.
        killed: It is about to be no more.
        killed_late: It was not ready in time.
        broken: One of its streams has failed: nothing that it says is believed any more, and it takes no calls.
        loop_calls: What its run has the loop call, by the number of the question, until it is answered.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keeper: Keeper,
        start_timeout: float,
        initializer: bytes | None = None,
        unheeded: Collection[int] = (),
    ) -> None:
        self._loop = loop
        self._keeper = keeper
        self._start_timeout = start_timeout
        self.run: Run | None = None
        self.ready = False
        self.retired = self.reaped = self.dying = self.broken = False
        self.initialized = initializer is not None
        self.initializing = False
        self.failure: BaseException | None = None
        self.tries = 1
        self.service = Service()
        self.code: int | None = None
        self.oom_killed = False
        self.loop_calls: dict[int, LoopCall] = {}
        self.killed = self.killed_late = False
        self._said = False  # that a stream has failed
        self._waited = self._keeper_knows = False
        self._pidfd = -1
        self._timer: asyncio.TimerHandle | None = None
        reap_forgotten()
        first = first_frame(initializer, unheeded)
        self._seen = self._knows = surroundings(umask=True)
        # Where the loop does not take its files, or an interrupt comes, nothing of it is left.
        with ExitStack() as undo:
            with no_forks:
                self._launch(undo, unheeded)
            self.data.send(first)
            if start_timeout < float("inf"):
                undo.callback(self._call_off)
                self._timer = aside.call_later(loop, start_timeout, self._too_late)
            undo.pop_all()

    def _launch(self, undo: ExitStack, unheeded: Collection[int]) -> None:
        """Launches it; a copy of its owner, made by a fork, knows what to close from here on."""
        self._oom_kills = oom_kills.so_far()
        self.pid, data, control, self._life, self._errors, stack = launch(undo, unheeded)
        undo.callback(self._close_pidfd)
        undo.callback(self._unwatch)
        self._probe = Probe(self, stack, self._close_pidfd)
        self.data = Stream(self._loop, data, self._hear_data, self._stream_failed)
        undo.callback(self.data.close)
        self.control = Stream(self._loop, control, self._hear, self._stream_failed)
        undo.callback(self.control.close)
        self._watch()
        _alive.add(self)

    # -------------------------------------------------------------------------------- what it says

    def _hear_data(self, pickle: Part, buffers: Buffers) -> None:
        try:
            message = loads(pickle, buffers=buffers) if buffers else loads(pickle)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            beginning = bytes(pickle[:BEGINNING])
            if b"ended" not in beginning and b"uninitialized" not in beginning:
                raise  # only the result of a call, and what an initializer has raised, may fail to load
            if error.__traceback__ is not None:  # without this frame, which holds what has arrived
                BaseException.with_traceback(error, error.__traceback__.tb_next)
            if self.initializing:
                self.failure = RemoteError(f"what it raised cannot be unpickled: {described(error)}")
            else:
                self._keeper.heard(self, "unloadable", (error,))
        else:
            if message[0] == "ended":  # nearly all are
                self._keeper.ended(self, *message[1:])
            else:
                self._heard(*message)

    def _hear(self, pickle: Part, _: Buffers) -> None:
        self._heard(*loads(pickle))

    def _heard(self, what: str, *details: Any) -> None:
        match what:
            case "ready":
                self._up()
            case "initializing":
                self._call_off()  # it has started: how long an initializer takes is not bounded
                self.initializing = True
            case "uninitialized":
                failure, trace = details
                set_cause(failure, RemoteError(f"in process {self.pid}:\n{trace}"))
                self.failure = failure
            case _:
                self._keeper.heard(self, what, details)

    def _stream_failed(self, error: BaseException | None) -> None:
        """Ends the process, with what it carries out: it could not be stopped, nor its end be heard."""
        before, self.broken = self.broken, True
        if error is None:
            if not (before or self.dying):  # it is about to die; or else a function has closed what is not its own
                aside.call_later(self._loop, LEAVE_TIMEOUT, self._end_if_alive)
            return
        if not self._said:
            self._said = True
            self._keeper.heard(self, "broken", (error,))
        self.kill()

    def _end_if_alive(self) -> None:
        if not self.reaped:
            self._stream_failed(ConnectionError("its end is closed, while it lives"))

    def _up(self) -> None:
        self._call_off()
        self.ready = True
        self.initializing = False
        text = self.written()
        self._errors.close()
        self._keeper.up(self)
        if text and sys.stderr is not None:
            with suppress(Exception):  # of the owner's stream, not of this process's
                sys.stderr.write(text)

    def catch_up(self) -> None:
        """Takes in what it has said, and what has become of it, up to now: the loop may have stood still.

        Not within what it says: a callback of the application's may lead here, and would have it heard twice.
        """
        if self.reaped or self.data.hearing or self.control.hearing:
            return
        self.control.read()
        self.data.read()
        if is_dead(self.pid):  # where somebody else reaps it, it is heard of otherwise
            self.died()

    def await_death(self, seconds: float) -> None:
        """Waits until it has died, `seconds` at most; what follows from that is left to `catch_up`."""
        if not self.reaped and self._pidfd >= 0:
            dead = select.poll()  # whatever the number of the file
            dead.register(self._pidfd, select.POLLIN)
            dead.poll(seconds * 1000)

    def _too_late(self) -> None:
        self.catch_up()
        if not self.ready and not self.reaped:
            self.killed_late = True
            self.kill()

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def written(self) -> str:
        """What it wrote to its standard error before it was ready; the end of it, where it is long."""
        if self._errors.closed:
            return ""
        fd = self._errors.fileno()
        return os.pread(fd, WRITTEN, max(0, os.fstat(fd).st_size - WRITTEN)).decode(errors="replace")

    def why_not_ready(self) -> str:
        """Says how it ended before it was ready, and what it wrote."""
        if self.failure is not None:
            how = f"raised {described(self.failure)}"
        elif self.killed_late:
            how = f"was not ready within {self._start_timeout:g} s"
        elif self.initializing:
            how = f"ended its process with exit code {self.code}"
        else:
            how = f"ended with exit code {self.code} before it was ready"
        if self.oom_killed:
            how += ", most likely by the kernel's out-of-memory killer"
        text = self.written().strip()
        return f"{how}; " + (f"it wrote:\n{text}" if text else "it wrote nothing to its standard error")

    # -------------------------------------------------------------------------------- what is done to it

    def surround(self, now: Surroundings) -> None:
        """Has it take over what has changed in its owner's state since it was launched, or since the last call."""
        if now is self._seen:
            return
        self._seen = now
        knows = now if now.umask is not None else now._replace(umask=self._knows.umask)
        changes = difference(self._knows, knows)
        self._knows = knows
        if changes is not None:
            self.data.send(changes)

    def signal(self, number: int) -> None:
        """Sends a signal to the process itself."""
        if self.reaped:
            return
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # it has died, or this process has given up the right to

    def inject(self) -> None:
        self.signal(INJECT)

    def terminate(self) -> None:
        """Ends the process, and asks the rest of its group."""
        self.signal(TERMINATE)
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and its whole group.

        Where this process has given up the right to, the kernel still does it for the lifeline's end.
        """
        self.killed = True
        if not self._signal_group(signal.SIGKILL):
            self._life.close()

    def leave(self) -> None:
        """Lets an idle process end by itself, soon."""
        self.retired = True
        self.data.finish()
        if self._timer is None:
            self._timer = aside.call_later(self._loop, LEAVE_TIMEOUT, self.kill)

    def _signal_group(self, number: int) -> bool:
        """Returns whether this process may do that."""
        if self.reaped:
            return True
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # nobody is left in it
        except PermissionError:
            return False
        return True

    def stack(self, *, ask: bool = True) -> str | None:
        """Returns where it stands; None where it is not ready, or no more. Any thread; see `Probe.stack`.

        Args:
            ask: Ask the process itself, which takes time; else the kernel alone.
        """
        if self.reaped or not self.ready:
            return None
        return self._probe.stack() if ask else kernels_view(self.pid)

    # -------------------------------------------------------------------------------- its death

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or denied
            name = f"supervisor/pid-{self.pid}"
            aside.start(threading.Thread(target=self._wait, name=name, daemon=True))
        else:
            aside.add_reader(self._loop, self._pidfd, self.died)

    def _unwatch(self) -> None:
        if self._pidfd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._pidfd)

    def _wait(self) -> None:
        """Waits for the death where there is no pidfd; reaps nothing."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody else has reaped it
        try:
            aside.call_soon_threadsafe(self._loop, self.died)
        except RuntimeError:
            pass  # the loop is closed

    def died(self) -> None:
        """Clears away what is left of it, and lets its keeper know. Idempotent in each part."""
        try:
            for part in (self._bury, self._clear_away, self._let_keeper_know, self._errors.close):
                insist(self._report, part)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.died)
            raise

    def _report(self, error: Exception) -> None:
        report_error(self._loop, f"supervisor: the end of worker process {self.pid} could not be handled", error)

    def _bury(self) -> None:
        if not self._waited:
            self.dying = True
            self.data.read(to_the_end=True)
            self.control.read(to_the_end=True)
            ours = self.killed
            self.kill()
            if self.run is not None and self.run.limited is not None:
                self.run.limited.ended(cpu_seconds(self.pid))
            self._reap()
            self.oom_killed = self.code == -signal.SIGKILL and not ours and oom_kills.took_one(self._oom_kills)

    def _let_keeper_know(self) -> None:
        if not self._keeper_knows:
            self._keeper.gone(self)
            self._keeper_knows = True

    def end_now(self, seconds: float) -> None:
        """Kills it and waits for its death, `seconds` at most, and then no longer here. Its keeper is not notified."""
        self.kill()
        if not self.reaped:
            wait_for_death(self.pid, seconds)
        self.kill()
        for part in (self._reap, self._clear_away, self._errors.close):
            insist(self._report, part)

    def _reap(self) -> None:
        self.reaped = True
        if not self._waited:
            self.code = reap(self.pid, self._loop)
            self._waited = True

    def _clear_away(self) -> None:
        self._unwatch()
        self._call_off()
        for close in (self.data.close, self.control.close, self._life.close, self._probe.close):
            insist(self._report, close)  # the errors stay, for whoever asks why it did not start

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def forked(self) -> None:
        """This is a copy of its owner: it must not keep the worker process alive."""
        self.reaped = True
        self._close_files()

    def __del__(self) -> None:
        if hasattr(self, "_probe") and not self._life.closed:  # it was given up, and nobody has heard of its end
            self._close_files()  # which ends it
            reap_forgotten(self.pid)

    def _close_files(self) -> None:
        """Closes all files, where there is no loop that knows of them."""
        self.data.close_fd()
        self.control.close_fd()
        self._errors.close()
        self._life.close()
        self._probe.close()

    def __repr__(self) -> str:
        how = "reaped" if self.reaped else "retired" if self.retired else "ready" if self.ready else "starting"
        return f"<worker process {self.pid}: {how}>"


_alive: weakref.WeakSet[Process] = weakref.WeakSet()


def _after_fork() -> None:
    for process in _alive:
        process.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
