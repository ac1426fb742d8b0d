"""The same as `inside`, for what needs Dask: the one module through which the tests reach what is private there."""

from contextlib import asynccontextmanager

from .foreign import imported_distributed

imported_distributed()

from supervisor._core.leases import Lease
from supervisor._kinds.cluster import cluster, kind, node, placing, proofs, reports, scheduler, unplaced
from supervisor._kinds.cluster import link as cluster_link
from supervisor._kinds.cluster.channel import MUCH as PIECE
from supervisor._kinds.cluster.channel import WINDOW, Channel
from supervisor._kinds.cluster.link import VERSION
from supervisor._kinds.cluster.node import RemoteNode
from supervisor._kinds.cluster.questions import Questions
from supervisor._kinds.cluster.scheduler import connected
from supervisor._node.watch import Watch

from .inside import Struck, verdict

__all__ = [
    "PIECE",
    "VERSION",
    "WHEN_A_NODE_IS_LOST",
    "WHEN_RUNS_ON_NODES_ARE_GIVEN_UP",
    "WHEN_RUNS_ON_NODES_ARE_STOPPED",
    "WHEN_RUNS_ON_NODES_END",
    "WHEN_WHAT_WAITS_IS_REFUSED",
    "WINDOW",
    "Channel",
    "Lease",
    "Questions",
    "RemoteNode",
    "Watch",
    "answer_of",
    "break_link",
    "cluster_link",
    "drop_connection",
    "have_all_acknowledged",
    "link_of",
    "link_with",
    "nodes_of",
    "proofs",
    "raw_connection",
    "scheduler",
    "shorten_patience",
]


_OF_THE_OWNER = (cluster, cluster_link, kind, node, placing, reports, verdict)

WHEN_RUNS_ON_NODES_END = Struck(
    _OF_THE_OWNER,
    frozenset(
        "_deliver _take_in _take_note place_waiting place add _find_place _claim _is_withdrawn put _say_begin"
        " tell_of_pool heard _entered _ended _over make_room begin send _call amend takes_runs free converted".split()
    ),
)
WHEN_RUNS_ON_NODES_ARE_STOPPED = Struck(
    _OF_THE_OWNER,
    frozenset(
        "_deliver _take_in _take_note heard _entered _extend _ended _over make_room send _call amend is_reached"
        " perform abandon stack stacks _stack _given_up retire _say_when_it_ends join leave close".split()
    ),
)
WHEN_RUNS_ON_NODES_ARE_GIVEN_UP = Struck(
    _OF_THE_OWNER, frozenset("abandon make_room stack stacks _stack _given_up join leave".split())
)
WHEN_A_NODE_IS_LOST = Struck(
    _OF_THE_OWNER,
    frozenset("_deliver _take_note lost _over make_room amend place_waiting place _find_place _is_withdrawn".split()),
)
WHEN_WHAT_WAITS_IS_REFUSED = Struck(_OF_THE_OWNER, frozenset("refuse_waiting refuse _is_withdrawn _claim".split()))


def link_with(monkeypatch, fake):
    """Has supervisors use a link of the test's."""
    monkeypatch.setattr(cluster, "Link", fake)


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


def answer_of(comm, seconds, **question):
    """Asks Dask something over a connection."""
    return scheduler._answer(comm, seconds, **question)


def have_all_acknowledged(channel):
    """Has the other end of a conversation have heard all that was said."""
    while items := channel._taken():
        channel._unacknowledged.extend(items)
        channel._acknowledged(items[-1].number)


def shorten_patience(monkeypatch, seconds):
    """Has it be said sooner that no node may take a run."""
    monkeypatch.setattr(unplaced, "PATIENCE", seconds)


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
