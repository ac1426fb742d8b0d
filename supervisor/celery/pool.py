"""The pool that Celery's worker uses. Celery calls it, in the worker's main thread."""

from __future__ import annotations

import pickle
import signal as signals
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from .child import SetUp, whereabouts_of
from .deliveries import Deliveries
from .host import Host
from .job import Callbacks, Job
from .seam import BasePool, Message, get_event_loop, get_logger, worker_state
from .settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .seam import Hub
    from .settings import Settings

__all__ = ["Pool"]

logger = get_logger(__name__)

ACKNOWLEDGEMENTS = ("ack_log_error", "reject_log_error")
"""Methods of a message that say to the broker what has become of it."""

LOOK_INTERVAL = 0.5
"""Seconds after which the end looks after the worker's own event loop, which stands still meanwhile."""


class Pool(BasePool):
    """Runs Celery's tasks under a Supervisor, in processes or threads, and ends each of them within its ladder.

    Name it in the environment of the worker:

        CELERY_CUSTOM_WORKER_POOL=supervisor.celery:Pool celery -A proj worker -P custom

    Tasks run in processes, or, by `SUPERVISOR_CELERY_KIND=thread`, in threads. `SUPERVISOR_CONFIG` names a file that
    sets ladders and times, as `supervisor.config.load` reads it; the pool is called "celery". Without it the ladder is
    Ask(0.5), Inject(2, every=0.5), Terminate(2), Kill(2), and a warm shutdown takes 20 s at most, of which tasks go on
    for 15. Celery's configuration may have the same, as `supervisor_kind` and `supervisor_config`.
    """

    uses_semaphore = True
    signal_safe = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._host: Host | None = None

    # ------------------------------------------------------------------------------------ it begins

    def on_start(self) -> None:
        """Starts the pool, and waits until the first process, or thread, takes tasks."""
        settings = self._settings = settings_of(self.app, self.options)
        if settings.ignored:
            logger.warning("%s", settings.ignored)
        self._semaphore: Any = self.options.get("semaphore")
        self._deliveries = Deliveries()
        self._host = Host(settings, self._set_up(settings), self._deliveries)
        self._host.start(max(1, self.limit))
        if self.options.get("threads", True):
            self._deliveries.start_thread()

    def _set_up(self, settings: Settings) -> SetUp | None:
        if settings.kind == "thread":
            return None
        app = self.app
        where = whereabouts_of(app)
        changes = {key: value for key, value in app.conf.changes.items() if _can_be_sent(value)}
        includes = [str(module) for module in app.conf.include or ()]
        return SetUp(where, app if where is None else None, settings.hostname, includes, changes)

    def register_with_event_loop(self, hub: Hub) -> None:
        """Has the worker's event loop make the calls of the pool; again after each loss of the connection."""
        hub.add_reader(self._deliveries, self._deliveries.deliver)

    # ------------------------------------------------------------------------------------ tasks

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., object] | None = None,
        accept_callback: Callable[..., object] | None = None,
        timeout_callback: Callable[..., object] | None = None,
        error_callback: Callable[..., object] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        """Runs a task as soon as there is room."""
        release = None if self._semaphore is None else self._semaphore.release
        callbacks = Callbacks(callback, error_callback, accept_callback, timeout_callback, release)
        settings, host = self._settings, self._host
        job = Job(
            callbacks,
            self._deliveries,
            soft_timeout or settings.soft,
            timeout or settings.hard,
            self._terminate,
            in_thread=settings.kind == "thread",
        )
        if host is not None and self._state == self.RUN:  # else the broker gives it to somebody else
            if kwargs:
                raise TypeError("Pool.apply_async(kwargs=...): give the arguments by position, as Celery does")
            name = str(args[0]) if args else getattr(target, "__qualname__", "call")
            host.submit(job, target, tuple(args), name)
        return job

    def _terminate(self, job: Job, signum: int) -> None:
        if self._host is not None:
            self._host.terminate(job, signum)

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Stops what a process carries out. Of threads nothing is stopped by this: all have the same number."""
        if self._host is not None and self._settings.kind == "process":
            self._host.terminate_process(pid, signal or signals.SIGTERM)

    def flush(self) -> None:
        """The connection to the broker is lost: what has not begun will be delivered again."""
        if self._host is not None:
            self._host.withdraw()

    # ------------------------------------------------------------------------------------ its size

    def grow(self, n: int = 1) -> None:
        """Has more tasks run at once."""
        self.limit += n
        if self._semaphore is not None:
            self._semaphore.grow(n)
        self._resize()

    def shrink(self, n: int = 1) -> None:
        """Has fewer tasks run at once; a process that is one too many leaves once it has nothing to do.

        Raises:
            ValueError: Less than one would be left.
        """
        if self.limit - n < 1:
            raise ValueError(f"shrink(n={n!r}): of {self.limit} one must be left")
        self.limit -= n
        if self._semaphore is not None:
            self._semaphore.shrink(n)
        self._resize()

    def _resize(self) -> None:
        if self._host is not None:
            self._host.resize(max(1, self.limit))

    def restart(self) -> None:
        """Has new processes take the places of all, each once it has nothing to do: they import what has changed."""
        if self._host is not None:
            self._host.renew()

    # ------------------------------------------------------------------------------------ what there is

    def _get_info(self) -> dict[str, Any]:
        settings = self._settings
        return {
            **super()._get_info(),
            "kind": settings.kind,
            "max-concurrency": self.limit,
            "processes": [] if self._host is None else self._host.pids(),
            "max-tasks-per-child": settings.max_tasks or "N/A",
            "put-guarded-by-semaphore": self.putlocks,
            "timeouts": [0 if limit == inf else limit for limit in (settings.soft, settings.hard)],
        }

    # ------------------------------------------------------------------------------------ the end

    def on_stop(self) -> None:
        """Ends the pool within its time. A signal handler may call it while it waits: then less time is left."""
        host, settings = self._host, self._settings
        if host is None:
            return
        self._state = self.CLOSE
        if not _is_cold():
            host.drain()
            self._wait(host, lambda: host.idle or _is_cold(), monotonic() + settings.drain)
        self._end(settings.ladder if _is_cold() else settings.rest)

    def on_terminate(self) -> None:
        """Ends the pool within the time of a ladder."""
        if self._host is not None:
            self._end(self._settings.ladder)

    def _end(self, seconds: float) -> None:
        host = self._host
        if host is None:
            return
        self._state = self.CLOSE
        host.withdraw()
        self._deliveries.take_over()
        self._deliveries.deliver()  # what has begun, and Celery has not heard of yet, is given back, too
        _give_back(self)
        host.shut_down(seconds)
        self._wait(host, self._goes_on, inf)
        host.join()
        self._deliveries.deliver()
        _look_after(get_event_loop())
        self._host = None

    def _goes_on(self) -> bool:
        """Gives back what had been taken just before, and is only heard of now; nothing but the end is enough."""
        _give_back(self)
        return False

    def _wait(self, host: Host, enough: Callable[[], bool], until: float) -> None:
        """Makes Celery's calls here until the host has ended, or that is enough, or that time has come."""
        self._deliveries.take_over()
        hub = get_event_loop()
        while not (host.ended or enough() or (left := until - monotonic()) <= 0):
            self._deliveries.wait(min(left, LOOK_INTERVAL))
            self._deliveries.deliver()
            _look_after(hub)
        self._deliveries.deliver()


def _is_cold() -> bool:
    """Whether the worker is to end at once; before 5.5 a signal that comes late says it by this alone."""
    return worker_state.should_terminate not in (None, False)


def _give_back(pool: Pool) -> None:
    """Has the messages of tasks that still run, and that are acknowledged late, given out again.

    From 5.5 on, Celery does so itself in a cold shutdown.
    """
    for request in tuple(worker_state.active_requests):
        if not request.task.acks_late or request.acknowledged or request.id in worker_state.successful_requests:
            continue  # who is not given back is lost with its worker
        try:
            request.cancel(pool, emit_retry=False)
        except TypeError:  # before 5.6
            request.cancel(pool)


def _look_after(hub: Hub | None) -> None:
    """Has the heartbeats of the connection go on, and what was acknowledged leave, while the hub stands still."""
    if hub is None:
        return
    try:
        hub.fire_timers()
        _acknowledge(hub)
    except ValueError:  # this is a signal handler, and the hub looks after its timers just now
        pass
    except Exception:  # the connection may be broken
        logger.exception("the worker's event loop could not be looked after while the pool ends")


def _acknowledge(hub: Hub) -> None:
    """Sends the acknowledgements that wait for a turn of the worker's event loop.

    What else waits for it does so still: it may read from the broker, and hand tasks to a pool that takes none.
    """
    for callback in hub._pop_ready():
        function = getattr(callback, "fun", None)
        name = getattr(function, "__name__", "")
        if name in ACKNOWLEDGEMENTS and isinstance(getattr(function, "__self__", None), Message):
            try:
                callback()
            except Exception:
                logger.exception("the broker could not be told what has become of a task")
        else:
            hub.call_soon(callback)


def _can_be_sent(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
