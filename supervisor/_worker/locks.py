"""The lock that code of ours takes with `with`."""

from __future__ import annotations

import sys
from _thread import RLock

__all__ = ["ScopedLock"]


class ScopedLock(RLock):  # type: ignore[misc]  # typeshed calls it final; the interpreter does not
    """A reentrant lock that `with` takes and gives back, wherever an exception strikes.

    Before 3.14 and from 3.15 on, the interpreter sees to that. On 3.14 an exception from outside, such as a
    KeyboardInterrupt, can strike when the C code of `__enter__` has taken the lock and the block has not begun: nobody
    would ever release it. Taken by hand, with `acquire`, it is like any other lock.
    """

    __slots__ = ()

    if (3, 14) <= sys.version_info < (3, 15):
        # The exception strikes in here, then: after a method in Python has returned, the interpreter looks for none
        # until the block has begun. `__exit__` stays C code, as one in Python could be struck at its beginning.
        def __enter__(self, blocking: bool = True, timeout: float = -1) -> bool:
            before: int = self._recursion_count()  # type: ignore[attr-defined]  # typeshed leaves it out
            try:
                return RLock.acquire(self, blocking, timeout)
            except BaseException:
                if self._recursion_count() > before:  # type: ignore[attr-defined]
                    RLock.release(self)
                raise
