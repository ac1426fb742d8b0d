"""Pure: whether a supervisor can be asked, and told, from outside its process."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Control"]


@dataclass(frozen=True, slots=True)
class Control:
    """A socket through which the user that runs the service can look into it: `Supervisor(control=Control(...))`.

    `control=True` is `Control()`, a path is `Control(path)`, and `control="write"` is `Control(write=True)`. Immutable.

    Attributes:
        path: Where the socket is. None: in the user's runtime directory, by the process and the supervisor's name,
            where `python -m supervisor` finds it by itself.
        write: Whether it also takes what changes things: to stop and restart workers, and to shut down.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it.

    Example:
        >>> Control(write=True)
        Control(path=None, write=True)
    """

    path: str | os.PathLike[str] | None = None
    write: bool = False

    def __post_init__(self) -> None:
        if self.path is not None:
            path = os.fspath(self.path)
            if not isinstance(path, str):
                raise TypeError(f"Control(path={self.path!r}): must be a path, or None")
            if not path or "\0" in path:
                raise ValueError(f"Control(path={self.path!r}): must not be empty, nor contain a NUL")
            object.__setattr__(self, "path", path)
        if not isinstance(self.write, bool):
            raise TypeError(f"Control(write={self.write!r}): must be True or False")
