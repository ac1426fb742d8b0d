"""Runs the blocking work of async services in threads, and stops it in a time that is known beforehand.

The public names are those of `__all__`; everything else is private. Importing the package is cheap: what a name needs
is imported when the name is first used.

PYTEST_DONT_REWRITE: it may well be imported before pytest, which would warn that it came too late.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from ._context import StopEvent as StopEvent
    from ._context import WorkerContext as WorkerContext
    from ._context import current_context as current_context
    from ._errors import PolicyError as PolicyError
    from ._errors import RemoteError as RemoteError
    from ._errors import RestartLimitExceeded as RestartLimitExceeded
    from ._errors import StopInjected as StopInjected
    from ._errors import StopRequested as StopRequested
    from ._errors import SupervisorBusy as SupervisorBusy
    from ._errors import SupervisorClosed as SupervisorClosed
    from ._errors import SupervisorError as SupervisorError
    from ._errors import WorkerDied as WorkerDied
    from ._errors import WorkerExit as WorkerExit
    from ._errors import WorkerFailed as WorkerFailed
    from ._errors import WorkerStopped as WorkerStopped
    from ._errors import WorkerTimeout as WorkerTimeout
    from ._outcome import Health as Health
    from ._outcome import Outcome as Outcome
    from ._outcome import ShutdownReport as ShutdownReport
    from ._outcome import Statistics as Statistics
    from ._outcome import Transition as Transition
    from ._policy import Ask as Ask
    from ._policy import EscalationPolicy as EscalationPolicy
    from ._policy import Inject as Inject
    from ._policy import Kill as Kill
    from ._policy import Restart as Restart
    from ._policy import Terminate as Terminate
    from ._supervisor import Supervisor as Supervisor
    from ._transitions import Transitions as Transitions
    from ._worker import Worker as Worker

_HOMES = {
    "Ask": "_policy",
    "EscalationPolicy": "_policy",
    "Health": "_outcome",
    "Inject": "_policy",
    "Kill": "_policy",
    "Outcome": "_outcome",
    "PolicyError": "_errors",
    "RemoteError": "_errors",
    "Restart": "_policy",
    "RestartLimitExceeded": "_errors",
    "ShutdownReport": "_outcome",
    "Statistics": "_outcome",
    "StopEvent": "_context",
    "StopInjected": "_errors",
    "StopRequested": "_errors",
    "Supervisor": "_supervisor",
    "SupervisorBusy": "_errors",
    "SupervisorClosed": "_errors",
    "SupervisorError": "_errors",
    "Terminate": "_policy",
    "Transition": "_outcome",
    "Transitions": "_transitions",
    "Worker": "_worker",
    "WorkerContext": "_context",
    "WorkerDied": "_errors",
    "WorkerExit": "_errors",
    "WorkerFailed": "_errors",
    "WorkerStopped": "_errors",
    "WorkerTimeout": "_errors",
    "current_context": "_context",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    thing: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
