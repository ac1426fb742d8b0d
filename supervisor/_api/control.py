"""What the control socket is to a supervisor: its port, and when it begins and ends."""

from __future__ import annotations

import logging
import os
import platform
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from weakref import ref

from .. import __version__
from .._control.listener import NoSocketError, listen
from .._control.protocol import VERSION, ControlError
from .._control.server import Server
from .._core.errors import text_of, type_name
from .._core.records import fields_of
from .._loop import aside
from .._loop.clock import monotonic
from .._observe.notices import GroupEnded, LateReturn, ShutdownBegun, ShutdownEnded, StateChanged
from .._runtime.nodes import WorkerNode
from .integration import Integration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._control.deeds import Deed
    from .._core.control import Control
    from .._core.outcome import Transition
    from .._core.report import ShutdownReport
    from .._observe.notices import Notice
    from .._run.run import Run
    from .._runtime.runtime import Runtime
    from .binding import Binding

__all__ = ["begin_control"]


def begin_control(binding: Binding, control: Control) -> None:
    """Opens the control socket of a supervisor, which is bound. Where there can be none, the log says so; no more."""
    runtime, name = binding.runtime, binding.settings.name
    assert runtime is not None
    path = None if control.path is None else os.fspath(control.path)
    try:
        listener = listen(path, name)
    except NoSocketError as error:
        runtime.log.write(logging.ERROR, "supervisor.control_failed", reason=str(error))
        return
    try:
        port = ControlPort(binding, runtime, write=control.write)
        server = Server(listener, port, monotonic, name)
        port.serve(server)
        server.start()
        binding.companions.append(server.thread)
    except BaseException as error:
        listener.close()
        if not isinstance(error, Exception):
            raise
        runtime.log.write(logging.ERROR, "supervisor.control_failed", reason=f"it could not be served: {error}")
        return


@dataclass(frozen=True, slots=True)
class LateEnd:
    """A run that was abandoned has ended after all."""

    worker: str
    kind: str


class ControlPort:
    """One supervisor, as the control server sees it. It does not keep the supervisor from being forgotten.

    Attributes:
        write: Whether what changes something is done.
    """

    def __init__(self, binding: Binding, runtime: Runtime, *, write: bool) -> None:
        self.write = write
        self._server: Server | None = None
        self._report: ShutdownReport | None = None  # kept: the program may let go of the supervisor at once
        self._loop = runtime.loop
        self._name = binding.settings.name
        self._binding = ref(binding, self._on_forgotten)

    def serve(self, server: Server) -> None:
        """Has the server end with the supervisor."""
        self._server = server
        self._integration.subscribe(self._receive, watch=False)

    def _receive(self, notice: Notice) -> None:
        server = self._server
        if server is not None and isinstance(notice, ShutdownEnded) and not notice.group:
            self._report = notice.report
            server.end()

    def _on_forgotten(self, _: object) -> None:
        """Nobody holds the supervisor any more. Any thread, also by the garbage collector."""
        server = self._server
        if server is not None:
            server.look()

    def closed(self) -> None:
        self._server = None
        binding = self._binding()
        if binding is not None:
            binding.subscribers.unsubscribe(self._receive)

    @property
    def gone(self) -> str:
        binding = self._binding()
        if binding is None:
            return "nobody holds the supervisor any more"
        if self._loop.is_closed():
            return "its event loop is closed"
        return binding.lost or ""

    @property
    def _integration(self) -> Integration:
        binding = self._binding()
        if binding is None:
            raise ControlError("failed", f"nobody holds supervisor {self._name!r} any more")
        return Integration(binding)

    # ------------------------------------------------------------------------------------ looking

    def hello(self) -> dict[str, Any]:
        return {
            "supervisor": self._name,
            "pid": os.getpid(),
            "version": __version__,
            "python": platform.python_version(),
            "protocol": VERSION,
            "write": self.write,
        }

    def survey(self, *, matching: str, states: Any, first: int, limit: int) -> dict[str, Any]:
        return self._integration.survey(matching=matching, states=states, first=first, limit=limit).to_dict()

    def stacks(self, names: list[str]) -> dict[str, str]:
        return self._integration.stacks(names)

    def running(self, matching: str) -> Iterator[str]:
        survey = self._integration.survey(matching=matching, states=("running", "stopping"))
        return (row.name for row in survey.workers)

    def incidents(self) -> list[dict[str, Any]]:
        return [incident.to_dict() for incident in self._integration.incidents()]

    def report(self) -> dict[str, Any] | None:
        report = self._report
        return None if report is None else {**report.to_dict(), "text": str(report)}

    def blocked_for(self) -> float | None:
        binding = self._binding()
        return None if binding is None else Integration(binding).loop_blocked_for

    # ------------------------------------------------------------------------------------ watching

    def watch(self, hear: Callable[[Any], object], *, matching: str, calls: bool) -> Callable[[], object]:
        def receive(notice: Notice) -> None:
            match notice:
                case StateChanged(transition=transition):
                    if matching == "*" or fnmatchcase(transition.worker, matching):
                        hear((time.time(), transition))
                case LateReturn(run=run):
                    if matching == "*" or fnmatchcase(run.name, matching):
                        hear((time.time(), LateEnd(run.name, run.kind.name)))  # without the run, and what it holds
                case ShutdownBegun() | GroupEnded():
                    hear((time.time(), notice))
                case _:
                    pass

        integration = self._integration
        integration.subscribe(receive, watch=calls)

        def end() -> None:
            binding = self._binding()
            if binding is not None:
                Integration(binding).unsubscribe(receive)

        return end

    def event_of(self, heard: tuple[float, Transition | Notice | LateEnd]) -> dict[str, Any] | None:
        at, what = heard
        base = {"supervisor": self._name, "at": at}
        match what:
            case LateEnd():
                return {"event": "worker.late_end", "worker": what.worker, "kind": what.kind, **base}
            case ShutdownBegun():
                event = "supervisor.group_stopping" if what.group else "supervisor.stopping"
                return {"event": event, "reason": what.reason, "group": what.group or None, **base}
            case GroupEnded(group=group):
                return {"event": "supervisor.group_stopped", "group": group, **base}
            case _:
                return {"event": what.event, **fields_of(what), **base}  # type: ignore[union-attr]

    # ------------------------------------------------------------------------------------ changing

    def begin(self, deed: Deed) -> None:
        if deed.request.do != "shutdown":
            self._found(deed)  # nobody needs the loop to be told that there is none
        try:
            aside.call_soon_threadsafe(self._loop, self._carry_out, deed)
        except RuntimeError:
            raise ControlError("failed", f"the event loop of supervisor {self._name!r} is closed") from None

    def _carry_out(self, deed: Deed) -> None:
        """Does it, on the loop's thread; an interrupt only delays it."""
        try:
            deed.conclude(self._done(deed))
        except ControlError as error:
            deed.fail(error)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._carry_out, deed)
            raise
        except Exception as error:
            deed.fail(ControlError("failed", f"{type_name(error)}: {text_of(error)}"))

    def _done(self, deed: Deed) -> dict[str, Any]:
        runtime, arguments = self._runtime, deed.request.arguments
        reason = arguments.get("reason") or f"{deed.request.do} by process {deed.pid}, through the control socket"
        if deed.request.do == "shutdown":
            runtime.teardown.begin(runtime.root, arguments["timeout"], reason, arguments["drain"])
            shutdown = runtime.shutdown
            return {"deadline_in": shutdown.deadline - runtime.clock(), "reason": shutdown.reason}
        of = self._found(deed)
        if deed.request.do == "stop":
            if isinstance(of, WorkerNode):
                runtime.tree.dismiss(of, reason)
            else:
                runtime.escalation.stop(of, "stop", reason)
            return {"name": of.name, "reason": reason}
        if not isinstance(of, WorkerNode):
            raise ControlError("failed", f"{of.name!r} is a call, which cannot be restarted; stop it")
        if runtime.shutdown.begun:
            raise ControlError("failed", f"supervisor {self._name!r} is shutting down, and restarts nobody")
        runtime.tree.restart(of)
        return {"name": of.name, "attempt": of.attempt}

    def _found(self, deed: Deed) -> Run | WorkerNode:
        name = deed.request.arguments["name"]
        of = self._runtime.names.find(name)
        if of is None:
            raise ControlError("no_such_worker", f"{name!r}: no worker or call that has not ended has this name")
        return of

    @property
    def _runtime(self) -> Runtime:
        binding = self._binding()
        runtime = None if binding is None else binding.runtime
        if runtime is None:
            raise ControlError("failed", f"nobody holds supervisor {self._name!r} any more")
        return runtime

    def failed(self, error: BaseException) -> None:
        reason = f"it has ended: {type_name(error)}: {text_of(error)}"
        binding = self._binding()
        if binding is not None and binding.runtime is not None:
            try:
                log = binding.runtime.log
                aside.call_soon_threadsafe(
                    self._loop, lambda: log.write(logging.ERROR, "supervisor.control_failed", reason=reason)
                )
            except RuntimeError:
                pass  # the loop is closed
