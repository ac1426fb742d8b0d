"""In the processes of the pool: what sets them up for Celery's tasks, and what calls these.

Threads call tasks by the same class.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from .._kinds.processes.child.gate import Gate

__all__ = ["SOFT_LIMIT", "SetUp", "Work", "whereabouts_of"]

SOFT_LIMIT = signal.SIGUSR1
"""The signal of a soft time limit, as in prefork: `revoke(terminate=True, signal="SIGUSR1")` is one, too."""


class Work:
    """Calls a task; goes by the task's name in logs and stacks.

    Args:
        target: Celery's function that calls tasks, and stores what comes of them.
        name: Of the task.
    """

    def __init__(self, target: Callable[..., Any], name: str = "") -> None:
        self._target = target
        self.__qualname__ = name

    def __call__(self, *args: Any) -> Any:
        """Calls it."""
        if _raise_early is not None:
            _raise_early()
        try:
            return self._target(*args)
        except SystemExit as error:
            # Where a task ends its process, Celery takes that for a loss of the worker; here it need not end.
            lost: Any = _of("billiard.exceptions", "WorkerLostError")
            raise lost(f"Worker exited prematurely: exitcode {_exit_code(error.code)}.") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Work, (self._target,)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def whereabouts_of(app: Any) -> tuple[str, str] | None:
    """Returns the module that has the app, and its name there, so that a process finds the same; None: in none."""
    for module_name, module in tuple(sys.modules.items()):
        if module_name.startswith(("celery.", "supervisor.")):
            continue
        for name, value in tuple(getattr(module, "__dict__", {}).items()):
            if value is app:
                return module_name, name
    return None


class SetUp:
    """Sets a process up: the initializer of the pool.

    Args:
        where: The module of the app, and its name there; None: `app` is sent.
        app: Celery's app, where it is in no module.
        hostname: Of the worker.
        includes: Modules with tasks, beyond those that the configuration names.
        changes: What has been changed in the configuration since, as far as it can be sent.
    """

    def __init__(
        self, where: tuple[str, str] | None, app: Any, hostname: str, includes: list[str], changes: dict[str, Any]
    ) -> None:
        self._where = where
        self._app = app
        self._hostname = hostname
        self._includes = includes
        self._changes = changes

    def __call__(self) -> None:
        """Sets this process up."""
        app = _sent(self._app) if self._where is None else _found(*self._where)
        app.conf.update(self._changes)
        _name_process()
        _set_up_celery(app, self._hostname, self._includes)
        _catch_soft_limit()

    def __repr__(self) -> str:
        return "the set-up of Celery"


def _sent(app: Any) -> Any:
    """Has the tasks of the modules that are to be imported bind themselves to an app that was sent, as prefork does."""
    os.environ["FORKED_BY_MULTIPROCESSING"] = "1"
    _module("celery.app.base").USING_EXECV = True
    return app


def _found(module_name: str, name: str) -> Any:
    if module_name == "__main__":
        from .._kinds.processes.child.main_module import import_main  # noqa: PLC0415  # light

        where = _process().owners_main
        if where:
            import_main(where, ImportError(f"{name!r} is needed from '__main__'"))
    __import__(module_name)
    return getattr(sys.modules[module_name], name)


def _set_up_celery(app: Any, hostname: str, includes: list[str]) -> None:
    """Does what a process of prefork does once it has been started anew, but for signals, which are the pool's."""
    signals, trace = _module("celery.signals"), _module("celery.app.trace")
    _of("celery._state", "_set_task_join_will_block")(True)
    _of("celery.platforms", "set_mp_process_title")("celeryd", hostname=hostname)
    app.set_current()
    app.set_default()
    app.loader.init_worker()
    for module in includes:
        app.loader.import_task_module(module)
    app.loader.init_worker_process()
    _set_up_logs(app, hostname)
    trace.setup_worker_optimizations(app, hostname)
    for name, task in app.tasks.items():
        task.__trace__ = trace.build_tracer(name, task, app.loader, hostname, app=app)
    _of("celery.worker.state", "reset_state")()
    signals.worker_process_init.send(sender=hostname)
    _send_at_end(signals.worker_process_shutdown, hostname)


def _set_up_logs(app: Any, hostname: str) -> None:
    environ = os.environ
    app.log.setup(
        int(environ.get("CELERY_LOG_LEVEL") or 0),
        environ.get("CELERY_LOG_FILE") or None,
        bool(environ.get("CELERY_LOG_REDIRECT")),
        environ.get("CELERY_LOG_REDIRECT_LEVEL") or "WARNING",
        hostname=hostname,
    )


def _name_process() -> None:
    """Names it in log lines, and in the names of log files, where prefork's processes have a number."""
    process = _of("billiard.process", "current_process")()
    process._name = f"SupervisorWorker-{os.getpid()}"
    process.index = os.getpid()


def _send_at_end(shutdown: Any, hostname: str) -> None:
    """Sends the signal that a process leaves, where it is not killed: multiprocessing's exit handlers are called."""
    from multiprocessing.util import Finalize  # noqa: PLC0415  # light

    Finalize(None, shutdown.send, kwargs={"sender": hostname, "pid": os.getpid(), "exitcode": 0}, exitpriority=100)


def _catch_soft_limit() -> None:
    """Has a soft limit be raised in the task that it is for, once; in one that has not been entered, as that is."""
    global _raise_early  # noqa: PLW0603
    limit_exceeded: type[BaseException] = _of("billiard.exceptions", "SoftTimeLimitExceeded")
    process = _process()
    gate: Gate = process.gate

    def is_for_this_task() -> bool:
        backend = process.backend
        return backend is not None and process.signalled == backend.number

    def on_signal(_: int, frame: FrameType | None) -> None:
        if not gate.running or frame is None or frame.f_code is type(gate).run.__code__ or not is_for_this_task():
            return
        process.signalled = None
        gate.strike(frame, limit_exceeded)

    def raise_early() -> None:
        if is_for_this_task():
            process.signalled = None
            raise limit_exceeded

    _raise_early = raise_early
    signal.signal(SOFT_LIMIT, on_signal)


_raise_early: Callable[[], None] | None = None
"""In a process: raises the soft limit of the task that is being entered, where that has passed already."""


def _module(name: str) -> Any:
    """Returns a module of Celery or its companions, which have no types, and are no part of a light start."""
    return import_module(name)


def _of(module: str, name: str) -> Any:
    return getattr(_module(module), name)


def _process() -> Any:
    """Returns the process, as its initializer knows it."""
    from .._worker.current import current  # noqa: PLC0415  # light

    backend: Any = current.source
    return backend._owner
