"""Runs the blocking work of async services in threads, and stops it in a time that is known beforehand.

The public names are those of `__all__`; everything else is private. Importing the package is cheap: what a name needs
is imported when the name is first used.

PYTEST_DONT_REWRITE: it may well be imported before pytest, which would warn that it came too late.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from ._api.iteration import Iteration as Iteration
    from ._api.pool import Pool as Pool
    from ._api.supervisor import Supervisor as Supervisor
    from ._api.worker import Worker as Worker
    from ._core.control import Control as Control
    from ._core.errors import PolicyError as PolicyError
    from ._core.errors import RemoteError as RemoteError
    from ._core.errors import RestartLimitExceeded as RestartLimitExceeded
    from ._core.errors import StopInjected as StopInjected
    from ._core.errors import StopRequested as StopRequested
    from ._core.errors import SupervisorBusy as SupervisorBusy
    from ._core.errors import SupervisorClosed as SupervisorClosed
    from ._core.errors import SupervisorError as SupervisorError
    from ._core.errors import WorkerExit as WorkerExit
    from ._core.errors import WorkerFailed as WorkerFailed
    from ._core.failures import WorkerDied as WorkerDied
    from ._core.failures import WorkerOverLimit as WorkerOverLimit
    from ._core.failures import WorkerStopped as WorkerStopped
    from ._core.failures import WorkerTimeout as WorkerTimeout
    from ._core.incident import Incident as Incident
    from ._core.outcome import Outcome as Outcome
    from ._core.outcome import Transition as Transition
    from ._core.policy import Ask as Ask
    from ._core.policy import EscalationPolicy as EscalationPolicy
    from ._core.policy import Inject as Inject
    from ._core.policy import Kill as Kill
    from ._core.policy import Terminate as Terminate
    from ._core.pools import Limits as Limits
    from ._core.report import Health as Health
    from ._core.report import NodeStatistics as NodeStatistics
    from ._core.report import PoolStatistics as PoolStatistics
    from ._core.report import ShutdownReport as ShutdownReport
    from ._core.report import Statistics as Statistics
    from ._core.restart import Restart as Restart
    from ._observe.transitions import Transitions as Transitions
    from ._worker.context import WorkerContext as WorkerContext
    from ._worker.current import current_context as current_context
    from ._worker.stop_event import StopEvent as StopEvent

_HOMES = {
    "Ask": "_core.policy",
    "Control": "_core.control",
    "EscalationPolicy": "_core.policy",
    "Health": "_core.report",
    "Incident": "_core.incident",
    "Inject": "_core.policy",
    "Iteration": "_api.iteration",
    "Kill": "_core.policy",
    "Limits": "_core.pools",
    "NodeStatistics": "_core.report",
    "Outcome": "_core.outcome",
    "PolicyError": "_core.errors",
    "Pool": "_api.pool",
    "PoolStatistics": "_core.report",
    "RemoteError": "_core.errors",
    "Restart": "_core.restart",
    "RestartLimitExceeded": "_core.errors",
    "ShutdownReport": "_core.report",
    "Statistics": "_core.report",
    "StopEvent": "_worker.stop_event",
    "StopInjected": "_core.errors",
    "StopRequested": "_core.errors",
    "Supervisor": "_api.supervisor",
    "SupervisorBusy": "_core.errors",
    "SupervisorClosed": "_core.errors",
    "SupervisorError": "_core.errors",
    "Terminate": "_core.policy",
    "Transition": "_core.outcome",
    "Transitions": "_observe.transitions",
    "Worker": "_api.worker",
    "WorkerContext": "_worker.context",
    "WorkerDied": "_core.failures",
    "WorkerExit": "_core.errors",
    "WorkerFailed": "_core.errors",
    "WorkerOverLimit": "_core.failures",
    "WorkerStopped": "_core.failures",
    "WorkerTimeout": "_core.failures",
    "current_context": "_worker.current",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def _refuse_supervisord() -> None:
    """Refuses to be imported from a folder into which supervisord, whose package has the same name, was installed too.

    Each of the two has overwritten files of the other: what then works, and what does not, is chance.
    """
    from os.path import exists  # noqa: PLC0415  # no name of ours

    for folder in __path__:
        if exists(f"{folder}/supervisord.py"):  # noqa: PTH110  # light
            raise ImportError(
                f"stopladder and supervisord (the distribution `supervisor`) are both installed in {folder}: they have "
                "the same import name, and cannot share one environment. Here, run `pip uninstall -y supervisor "
                "stopladder`, and install stopladder again; supervisord needs an environment of its own, such as "
                "`pipx install supervisor`",
                name=__name__,
                path=folder,
            )


def _support_freezing() -> None:
    """A frozen program that is started as a worker process becomes one by `multiprocessing.freeze_support()`."""
    import sys  # noqa: PLC0415  # no name of ours

    if getattr(sys, "frozen", False) and "--multiprocessing-fork" in sys.argv[1:2]:
        from ._kinds.processes.child.frozen import support  # noqa: PLC0415  # light

        support()


_refuse_supervisord()
_support_freezing()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # light

    thing: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
