"""Pure: the errors that carry a worker's Outcome."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from .errors import SupervisorError

TYPE_CHECKING = False  # light
if TYPE_CHECKING:
    from .outcome import Outcome
    from .usage import LimitName

__all__ = ["WorkerDied", "WorkerOverLimit", "WorkerStopped", "WorkerTimeout", "signal_of"]


class WorkerStopped(SupervisorError):
    """A call was ended by `Worker.stop` or by a shutdown before it had a result.

    What it still produced, if anything, is in `outcome`; an error that it raised is also the `__cause__`.

    Attributes:
        outcome: How the run ended.

    Example:
        >>> from supervisor import Outcome
        >>> print(WorkerStopped(Outcome("load-1", "thread", ended="injected", step="inject", stop_seconds=5.2)))
        worker 'load-1' was stopped: it ended as 'injected' 5.2 s after it was asked to stop
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)

    @property
    def outcome(self) -> Outcome:
        outcome: Outcome = self.args[0]  # an attribute takes a dict, and many calls may be stopped at once
        return outcome

    def __str__(self) -> str:
        return f"worker {self.outcome.worker!r} was stopped: {_ending(self.outcome)}"


class WorkerTimeout(WorkerStopped, TimeoutError):
    """The `timeout` of a call passed, or too little was left of `within`, so its ladder was climbed.

    Raised when the work has ended or was abandoned, not before; `outcome.ended` says which.

    Attributes:
        outcome: How the run ended.
        reason: Why it was stopped, where that was for something else than its timeout: it was not ready in time.

    Example:
        >>> issubclass(WorkerTimeout, TimeoutError)
        True
    """

    def __init__(self, outcome: Outcome, reason: str = "") -> None:
        super().__init__(outcome)
        self.reason = reason
        self.args = (outcome, reason)  # for pickles

    def __str__(self) -> str:
        why = f"was {self.reason}" if self.reason else "ran out of time"
        return f"worker {self.outcome.worker!r} {why}: {_ending(self.outcome)}"


class WorkerOverLimit(WorkerStopped):
    """A call, or a run of a worker, used more than its `Limits` allow, so its ladder was climbed.

    Raised when the work has ended or was abandoned, whatever it then did. Where the event loop was blocked, the kernel
    may have ended its process in the loop's place: then `outcome.ended` is "died".

    Attributes:
        outcome: How the run ended; `outcome.allowed` is the limit, and `outcome.used` what was measured.
        limit: Which one it exceeded: "rss" or "cpu_seconds".

    Example:
        >>> from supervisor import Outcome
        >>> outcome = Outcome("a", "process", ended="stopped", limit="rss", allowed=512 << 20, used=700 << 20)
        >>> print(str(WorkerOverLimit(outcome)).partition(": it ended")[0])
        worker 'a' was over its limit: rss of 700 MiB, allowed are 512 MiB
    """

    @property
    def limit(self) -> LimitName | None:
        return self.outcome.limit

    def __str__(self) -> str:
        outcome = self.outcome
        how = f"its process died: {_exit(outcome.exit_code)}" if outcome.ended == "died" else _ending(outcome)
        return f"worker {outcome.worker!r} was over its limit: {_excess(outcome)}: {how}"


class WorkerDied(SupervisorError, BrokenExecutor):
    """The process of a worker ended by itself: by a signal, by `os._exit`, for want of memory.

    It is a `concurrent.futures.BrokenExecutor`, which a stock process pool raises then: code that repeats a call for
    that one repeats it for this one. But only this call has failed, and the executor goes on.

    Attributes:
        outcome: How the run ended; `outcome.exit_code` is as in `subprocess`, None where it is not known, and
            `outcome.oom_killed` says whether it was, most likely, for want of memory.

    Example:
        >>> from supervisor import Outcome
        >>> print(WorkerDied(Outcome("load-1", "process", ended="died", exit_code=-11)))
        the process of worker 'load-1' died: SIGSEGV
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        outcome = self.outcome
        if outcome.node is not None and outcome.exit_code is None:
            return f"worker {outcome.worker!r} died with its node {outcome.node!r}"
        why = ", most likely by the kernel's out-of-memory killer" if outcome.oom_killed else ""
        return f"the process of worker {outcome.worker!r} died: {_exit(outcome.exit_code)}{why}"


def signal_of(exit_code: int | None) -> str | None:
    """Returns the name of the signal that has ended a process; None where none has, or where that is not known."""
    if exit_code is None or exit_code >= 0:
        return None
    from signal import Signals  # noqa: PLC0415  # light

    try:
        return Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def _exit(code: int | None) -> str:
    if code is None:
        return "how is not known, as somebody else has reaped it"
    return signal_of(code) or f"it exited with code {code}"


def _excess(outcome: Outcome) -> str:
    from .usage import Excess  # noqa: PLC0415  # light

    if outcome.limit is None or outcome.allowed is None or outcome.used is None:
        return "which one is not known"
    return str(Excess(outcome.limit, outcome.allowed, outcome.used))


def _ending(outcome: Outcome) -> str:
    if outcome.ended == "cancelled":
        return "it had not started, and will not"
    since = f"{outcome.stop_seconds:.1f} s after it was asked to stop"
    if outcome.ended == "abandoned":
        return f"it was abandoned {since} and still runs; outcome.stack shows where"
    return f"it ended as {outcome.ended!r} {since}"
