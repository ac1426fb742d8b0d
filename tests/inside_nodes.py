"""The same as `inside` for what is said between an owner and its nodes. It imports Dask."""

from .foreign import imported_distributed

imported_distributed()

from types import SimpleNamespace

from supervisor._core.leases import Lease
from supervisor._kinds.cluster.channel import Channel
from supervisor._kinds.cluster.cluster import _event, _lost_with
from supervisor._node import relay
from supervisor._node.agent import Agent
from supervisor._node.relay import Relay
from supervisor._node.watch import Watch
from supervisor._worker.parcel import packed


class RelayEnd:
    """A relay on a node, and what its owner makes of its events. On an event loop's thread.

    Attributes:
        relay: A logger of the node.
        steps: The events that were said to be steps.
    """

    LARGEST, MOST, MOST_BYTES = relay.LARGEST, relay.MOST, relay.MOST_BYTES

    def __init__(self, post):
        self.steps = []
        self._channel = Channel(lambda items: None, lambda news: None, lambda error: None)
        self.relay = Relay(self._channel, post, self.steps.append)

    def heard(self):
        """Has the owner take all that was sent: its events, each with its level."""
        sent = []
        while items := self._channel._taken():
            sent += items
            self._channel._unacknowledged.extend(items)
            self._channel._acknowledged(items[-1].number)
        return [{**_event(each.item[3]), "level": each.item[2]} for each in sent]

    def lost_with_all(self):
        """How many events are lost if the owner drops all that was sent."""
        return sum(_lost_with(*waiting.item[1:]) for waiting in (*self._channel._small, *self._channel._large))

    def say_what_was_dropped(self):
        self.relay.say_what_was_dropped()


class Node:
    """A node of four threads, within the test's process: no Dask is there. On an event loop's thread."""

    def __init__(self, resources):
        state = SimpleNamespace(nthreads=4, total_resources=resources)
        self._agent = Agent(SimpleNamespace(handlers={}, name="n", state=state))

    def owner(self, name, lease=10.0):
        return OwnerOfNode(self._agent._begun(name, name, Lease(lease, 5.0), None))

    async def close(self):
        await self._agent.close()


class OwnerOfNode:
    """What an owner says to a node, and what it hears.

    Attributes:
        now: What time the node has, as far as its lease is concerned.
    """

    def __init__(self, session):
        self._session = session
        self.now = 1000.0
        session._watch = Watch(session._lease, session._watch._say, lambda: self.now)

    def begin(self, number, fn, *args, resources=None, options=None):
        about = {
            "name": f"run-{number}",
            "fn": "fn",
            "kind": "thread",
            "pool": None,
            "attempt": 1,
            "own": False,
            "resources": resources or {},
            "options": options,
        }
        self._session._heard([("begin", number, about, packed((fn, args, None)))])

    def say(self, *item):
        self._session._heard([item])

    def echo(self, moment):
        self._session._news({"echo": moment})

    def ended(self):
        """The numbers of the runs of which it was said that they have ended."""
        small = self._session.channel._small
        return [waiting.item[1] for waiting in small if waiting.item[0] == "ended"]

    def errors(self):
        """What the node has logged as an error, for this owner."""
        small = self._session.channel._small
        return [_event(waiting.item[2]) for waiting in small if waiting.item[:2] == ("log", "error")]

    @property
    def taken(self):
        """What the others have taken, as the node says it."""
        return self._session._agent.taken_by_others(self._session)


def fail_link(sup):
    """Has the link of a supervisor fail in what it does again and again."""
    link = next(kind for kind in sup._binding.runtime.kinds if kind.settings.on)._cluster.link

    def fail(_):
        raise RuntimeError("broken")

    link.looked = fail
