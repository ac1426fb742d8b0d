"""The same as `inside`, for what needs Dask: the one module through which the tests reach what is private there."""

from contextlib import asynccontextmanager

from .foreign import imported_distributed

imported_distributed()

from supervisor._core.leases import Lease
from supervisor._kinds.cluster import link as cluster_link
from supervisor._kinds.cluster import proofs
from supervisor._kinds.cluster.channel import MUCH as PIECE
from supervisor._kinds.cluster.channel import WINDOW, Channel
from supervisor._kinds.cluster.scheduler import connected
from supervisor._node.watch import Watch

__all__ = [
    "PIECE",
    "WINDOW",
    "Channel",
    "Lease",
    "Watch",
    "break_link",
    "drop_connection",
    "link_of",
    "nodes_of",
    "proofs",
    "raw_connection",
]


def link_of(sup):
    """Returns the link of a supervisor that has used its cluster."""
    return sup._binding.runtime._maker._cluster.link


def nodes_of(sup):
    """Returns the nodes that a supervisor knows, by their names."""
    return {node.name: node for node in link_of(sup).nodes}


def break_link(monkeypatch, error):
    """Has the thread of a link die of an error, at its next look."""

    def broken(self, node, now):
        raise error

    monkeypatch.setattr(cluster_link.Link, "_look_at", broken)


def drop_connection(sup, node):
    """Breaks the connection to a node, whose name that is."""
    link_of(sup)._call(nodes_of(sup)[node].channel.drop)


@asynccontextmanager
async def raw_connection(address):
    """A connection to a node, over which anything may be said."""
    comm = await connected(address, 5, {})
    try:
        yield comm
    finally:
        comm.abort()
