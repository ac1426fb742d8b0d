"""In a worker process: the initializer of its pool, which is called before the process takes calls."""

from __future__ import annotations

from ...._worker.current import entered
from ...._worker.remote_errors import provable
from ..wire import message, write
from . import FOLDER
from .backend import ChildBackend
from .serve import FLUSH_TIMEOUT, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .serve import Child

__all__ = ["initialize"]


def initialize(child: Child, data: int, pickle: bytes) -> bool:
    """Calls the initializer; returns whether it has returned. If not, the owner hears what it has raised.

    It is no run: nothing asks it to stop or is injected into it, a shutdown ends its process. So its context is one of
    which nothing comes. The context variables that it sets are there in all calls.

    Args:
        child: The process.
        data: The socket of calls, in which nothing has come yet.
        pickle: The name of the initializer, and the initializer.
    """
    write(data, message("initializing"))
    raised: BaseException | None = None
    try:
        name, function = child.unpickled(pickle)
        backend = ChildBackend(child, 0, name, 1)  # also for its log events
        with child.lock:
            child.backend = backend
        entered(backend)
        function()
        backend.let_go()
    except BaseException as error:
        raised = error
    if child.forked:
        leave(raised)
    with child.lock:
        child.backend = None
    entered(None)
    if raised is None:
        return True
    if child.logs is not None:
        child.logs.flush(FLUSH_TIMEOUT)
    write(data, message("uninitialized", *provable(raised, FOLDER)))
    return False
