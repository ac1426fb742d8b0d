"""What a worker's function raised, as it may reach the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import StopRequested, WorkerExit, WorkerFailed

if TYPE_CHECKING:
    from .._run.run import Run

__all__ = ["converted"]


def converted(run: Run, error: BaseException) -> BaseException | None:
    """Returns what may reach the event loop in place of what the function raised; None where that was a success."""
    match error:
        case StopIteration():  # a future refuses it
            converted: BaseException = RuntimeError(f"worker {run.name!r} raised StopIteration")
        case Exception():
            return error
        case SystemExit(code=None):
            return None
        case SystemExit(code=int(code)) if code == 0:
            return None
        case SystemExit(code=code):
            converted = WorkerExit(run.name, code)
        case StopRequested() if run.ladder is not None:
            return error  # never delivered: the machine calls this a stop
        case _:
            converted = WorkerFailed(run.name, error)
    converted.__cause__ = error
    return converted
