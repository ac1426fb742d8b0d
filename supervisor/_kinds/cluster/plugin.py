"""What is installed on a Dask worker, so that it becomes a node."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

__all__ = ["OPERATION", "NodePlugin", "make_node"]

OPERATION = "supervisor"
"""What owners ask a node for, and the name of the plugin."""


class NodePlugin(WorkerPlugin):
    """Makes a Dask worker a node: it takes runs from then on, beside its tasks."""

    name = OPERATION

    def __init__(self) -> None:
        self._agent: Any = None

    def setup(self, worker: Any) -> None:
        """Begins. On the Dask worker's loop."""
        self._agent = import_module("supervisor._node.agent").Agent(worker)  # which is not for the owner

    async def teardown(self, worker: Any) -> None:
        """Ends all runs there, by their ladders."""
        if self._agent is not None:
            await self._agent.close()


async def make_node(dask_worker: Any) -> None:
    """Makes a Dask worker a node, if it is none. On its loop.

    Raises:
        Exception: It cannot be one.
    """
    if OPERATION not in dask_worker.handlers:
        await dask_worker.plugin_add(NodePlugin(), catch_errors=False)
