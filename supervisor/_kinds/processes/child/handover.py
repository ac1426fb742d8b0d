"""In a worker process: what multiprocessing hands to its children, and its owner to this one, once it is imported."""

from __future__ import annotations

import copyreg
import os
import sys

from ...._worker.current import shielded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, Protocol

    class Family(Protocol):
        """The process, as far as multiprocessing concerns it."""

        life: int
        forked: bool
        rename: Callable[[str], object] | None

        def ask(self, what: str) -> Any:
            """Asks the owner for something; None where it has no such thing."""
            ...

        def stamp(self) -> tuple[str, int]:
            """Returns the name of the worker, which may be empty, and its attempt."""
            ...


__all__ = ["finish", "join_family", "keep_connections_here", "share_tracker"]


def join_family(child: Family, multiprocessing: Any) -> None:
    """Has multiprocessing see a child of the owner: with its key, its start method, its log, and the worker's name."""
    process = sys.modules["multiprocessing.process"]
    me = process.current_process()

    def rename(name: str) -> None:
        me.name = name

    child.rename = rename
    rename(child.stamp()[0] or me.name)
    owner = child.ask("family")
    if owner is None:
        return
    me.authkey = owner["authkey"]
    process._parent_process = process._ParentProcess(owner["name"], os.getppid(), child.life)  # type: ignore[attr-defined]
    process.ORIGINAL_DIR = owner["folder"]  # type: ignore[attr-defined]
    try:
        multiprocessing.set_start_method(owner["start_method"], force=True)
    except ValueError:  # one of another library, which is not imported here
        pass
    if owner["log_to_stderr"]:
        multiprocessing.log_to_stderr()
    if owner["log_level"] is not None:
        multiprocessing.get_logger().setLevel(owner["log_level"])


def keep_connections_here(connection: Any) -> None:
    """Refuses to pickle a connection: the owner would get a mere number, and close whatever file of its own has that.

    Multiprocessing's way, which is to ask this process for the file, would hold up the owner's loop.
    """

    def refuse(_: object) -> NoReturn:
        raise TypeError("a connection of a worker process cannot be pickled: make it in the owner, and send it")

    copyreg.pickle(connection.Connection, refuse)


def share_tracker(child: Family, resource_tracker: Any) -> None:
    """Has what is made here be tracked by the owner's resource tracker, which outlives this process.

    A tracker of its own would destroy with this process what the owner still uses. The owner is asked when the tracker
    is first needed, and starts it then where it has none.
    """
    tracker = resource_tracker._resource_tracker
    base: Any = tracker.__class__

    class Shared(base):  # type: ignore[misc]
        @property
        def _fd(self) -> int | None:
            fd: int | None = self.__dict__["_fd"]
            if fd is None:
                fd = self.__dict__["_fd"] = _owners_file(child)
            return fd

        @_fd.setter
        def _fd(self, fd: int | None) -> None:
            self.__dict__["_fd"] = fd

    tracker.__class__ = Shared


def _owners_file(child: Family) -> int | None:
    """Opens the pipe to the owner's tracker; None where that cannot be: then this process starts its own."""
    with shielded():
        number = child.ask("tracker")
        try:
            # Without waiting for a tracker that is gone. It is a file of its own: it can be set to wait afterwards.
            fd = os.open(f"/proc/{os.getppid()}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # not Linux, or the owner has given up its privileges
            return None
        os.set_blocking(fd, True)
        return fd


def finish() -> None:
    """Ends what multiprocessing has begun here, and writes what its queues still hold, as at the end of any child."""
    try:
        sys.modules["multiprocessing.util"]._exit_function()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
