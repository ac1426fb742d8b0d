"""A link to nodes that are not there: it answers at once, in the thread that asks, and keeps what has begun in hand."""

from pickle import dumps

from supervisor import Outcome

from ..inside_cluster import RemoteNode


class FakeLink:
    """What a `Link` is to its cluster; a test puts it in its place.

    Attributes:
        begun, stopped: The names of the runs that a node was told to begin, and their numbers as they were stopped.
        holds: Runs that begin do not end before `let_go`.
        stubborn: They do not obey: nodes climb their ladders.
        silent: Nobody hears of their ends.
        lost: Has what waits fail.
    """

    def __init__(self, supervisor, scheduler, security, lease, heard, changed, failed, lost, orphaned):
        self._heard, self._changed, self.lost = heard, changed, lost
        self._held = {}
        self.begun, self.stopped = [], []
        self.holds = self.stubborn = self.silent = False
        self.problem, self.reached, self.closed = "", True, False
        self.nodes = ()
        self.add("a", "b")

    def add(self, *names):
        for name in names:
            node = RemoteNode(f"tcp://{name}", 1000.0, lambda *_: None, lambda: None, lambda _: None)
            node.name, node.threads, node.connected = name, 1, True
            self.nodes = (*self.nodes, node)
        self._changed(None)

    def lose(self):
        """All nodes are gone."""
        gone, self.nodes = self.nodes, ()
        for node in gone:
            node.gone, node.connected = True, False
            self._changed(node)

    def begin(self, there, number, about, parcel):
        if not there.begun:
            there.begun = True
            self.begun.append(about["name"])
            self._heard(there.at, [("entered", number, 1, None)])
            self._held[number] = there.at, about
            if not self.holds:
                self._end(number)

    def let_go(self):
        self.holds = False
        for number in list(self._held):
            self._end(number)

    def _end(self, number, ended="returned", step=None):
        node, about = self._held.pop(number)
        outcome = dumps(Outcome(about["name"], about["kind"], about["attempt"], ended, step=step))
        error = dumps(ValueError("meant")) if about["fn"].endswith("fail") else None
        returned = ended == "returned" and error is None
        value = dumps(about["name"]) if returned else None
        self._heard(node, [("ended", number, returned, outcome, error, "", value)])

    def send(self, node, what, *details):
        if what == "stop" and details[0] in self._held and not self.silent:
            number = details[0]
            self.stopped.append(number)
            if self.stubborn:
                self._heard(node, [("step", number, "inject", "  in spin()")])
                self._end(number, "injected", "inject")
            else:
                self._end(number)

    def stacks(self, runs, seconds):
        return {node: ["  in a function"] * len(numbers) for node, numbers in runs.items()}

    def close(self, seconds):
        self.closed = True
