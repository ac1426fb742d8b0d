"""The same as `inside` for what is said between an owner and its nodes. It imports Dask."""

from .foreign import imported_distributed

imported_distributed()

from supervisor._kinds.cluster.channel import Channel
from supervisor._kinds.cluster.cluster import _event, _lost_with
from supervisor._node import relay
from supervisor._node.relay import Relay


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


def fail_link(sup):
    """Has the link of a supervisor fail in what it does again and again."""
    link = next(kind for kind in sup._binding.runtime.kinds if kind.settings.on)._cluster.link

    def fail(_):
        raise RuntimeError("broken")

    link.looked = fail
