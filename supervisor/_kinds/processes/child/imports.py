"""In a worker process: what is done once a function has imported a module that concerns its owner."""

from __future__ import annotations

import sys

from ...._worker.current import shielded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .forward import Forwarder
    from .handover import Family

    class Child(Family, Protocol):
        """The process, as far as its imports concern it."""

        logs: Forwarder | None

        def send(self, parts: list[Any]) -> None:
            """Sends a frame to the owner."""
            ...


__all__ = ["imported", "spec_of"]


def spec_of(child: Child, hook: object, name: str, path: Any, target: Any) -> Any:
    """Finds a module as all other finders do, and has `imported` called when it has been executed."""
    specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not hook)
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is not None and spec.loader is not None:
        spec.loader = _Loader(child, spec.loader)  # type: ignore[assignment]
    return spec


class _Loader:
    """Stands in for a module's loader until the module is executed."""

    def __init__(self, child: Child, loader: Any) -> None:
        self._child = child
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        imported(self._child, module.__name__, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def imported(child: Child, name: str, module: Any) -> None:
    """A module of those in `AWAITED` is there: the function goes on as if it had been so from the start."""
    with shielded():
        if child.forked:
            return
        if name == "structlog":
            from .forward import Forwarder  # noqa: PLC0415  # lean

            if child.logs is None:
                child.logs = Forwarder(child.send, child.stamp)
                child.logs.configure(module)
            return
        from . import handover  # noqa: PLC0415  # lean

        if name == "multiprocessing":
            handover.join_family(child, module)
        elif name == "multiprocessing.connection":
            handover.keep_connections_here(module)
        else:
            handover.share_tracker(child, module)
