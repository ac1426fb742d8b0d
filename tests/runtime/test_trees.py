"""Whole trees of groups and workers, with real threads, and stories that Hypothesis makes up."""

import asyncio
import threading
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, SupervisorError

from .. import inside
from ..waiting import until

LIMIT = 20
POLICY = EscalationPolicy(Ask(0.02), Inject(15))

names = st.sampled_from("abc")
numbers = st.integers(0, 5)
restarts = st.builds(
    Restart,
    st.sampled_from(["never", "failure", "always"]),
    max_restarts=st.integers(0, 2),
    within=st.just(600),
    backoff=st.sampled_from([0, 0, 0.002]),
)
groups = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        "on_exhausted": st.sampled_from(["give_up", "escalate"]),
    }
)
after = st.lists(names, max_size=2)
tree = st.lists(
    st.tuples(st.just("start"), numbers, names, restarts, after)
    | st.tuples(st.just("group"), numbers, names, restarts, after, groups),
    min_size=3,
    max_size=8,
)
acts = st.lists(
    st.tuples(st.sampled_from(["fail", "fail", "return", "hang", "stop", "restart", "rest"]), numbers)
    | st.tuples(st.sampled_from(["call", "close"]), numbers)
    | st.tuples(st.just("start"), numbers, names, restarts, after),
    max_size=12,
)


class Silent:
    """A logger: what these stories would log is nobody's business."""

    def debug(self, event, **fields):
        pass

    info = warning = error = debug


class Tree:
    """A supervisor, all that was ever in it, and what its workers have seen themselves."""

    def __init__(self, root):
        self.sup = Supervisor(policy=POLICY, shutdown_timeout=LIMIT, logger=Silent(), **root)
        self.groups = [self.sup]
        self.members = set()
        self.handles = {}
        self.limits = {}
        self.tasks = []
        self.order = []  # who comes after whom, by their full names
        self.lock = threading.Lock()
        self.running = {}
        self.failures = Counter()
        self.ended = []  # those that the last shutdown has ended, in that order
        self.wrong = []

    def work(self, ctx):
        """Waits for an order: to fail, to return, or to be deaf to all but an injection."""
        mine = [], threading.Event()
        try:
            try:
                self.enter(ctx, mine)
                self.obey(ctx, *mine)
            finally:
                self.leave(ctx, mine)
        finally:
            self.leave(ctx, mine)  # where the injection has struck before the shield of the first one

    def enter(self, ctx, mine):
        with ctx.shield(), self.lock:
            if ctx.name in self.running:
                self.wrong.append(f"{ctx.name} runs twice")
            self.running[ctx.name] = mine

    def obey(self, ctx, orders, told):
        with ctx.on_stop(told.set):
            told.wait(LIMIT)
        while "hang" in orders and ctx.reason != "the end":
            pass
        if "fail" in orders and not ctx.stop.is_set():
            with ctx.shield(), self.lock:
                node = next(node for node in inside.nodes(self.sup) if node.name == ctx.name)
                self.failures[node] += 1
            raise ValueError(ctx.name)

    def leave(self, ctx, mine):
        with ctx.shield(), self.lock:
            if self.running.get(ctx.name) is mine:
                del self.running[ctx.name]
                if ctx.reason == "the end":
                    self.ended.append(ctx.name)

    # ---------------------------------------------------------------------------- what a story is made of

    async def act(self, what, number, *more):
        workers = [worker for worker in self.sup.workers() if worker.restarts >= 0]
        group = self.groups[number % len(self.groups)]
        if what == "group":
            self.group(group, *more)
        elif what == "start":
            self.later(self.start(group, *more))
        elif what == "call":
            self.later(group.run(sum, [1, 2]))
        elif what == "close":
            if group is not self.sup:
                self.later(group.shutdown(reason="enough"))
        elif what == "rest" or not workers:
            await asyncio.sleep(0.004)
        elif what in ("stop", "restart"):
            self.later(getattr(workers[number % len(workers)], what)())
        else:
            orders, told = self.running.get(workers[number % len(workers)].name, ([], threading.Event()))
            orders.append(what)
            told.set()
        await asyncio.sleep(0)
        self.note()

    def later(self, doing):
        self.tasks.append(asyncio.ensure_future(doing))

    def group(self, around, name, restart, after, options):
        if around.name.count("/") == 2:
            return
        try:
            made = around.group(name, restart=restart, after=after, **options)
        except (ValueError, SupervisorError):
            return
        self.groups.append(made)
        self.members.add(inside.node_of(made))

    async def start(self, group, name, restart, after):
        worker = await group.start(self.work, name=name, restart=restart, after=after)
        self.note()
        return worker

    def note(self):
        """Looks at all that is in the tree now."""
        for node in inside.nodes(self.sup):
            self.members.add(node)
            self.handles[node.worker] = node
            self.limits.setdefault(node, node.restart.max_restarts if node.restart.when != "never" else 0)
        assert not [other for member in self.members for other in member.dependents if other.over]

    def pairs(self):
        """Who must end before whom, of those that run now."""
        live = [node for node in inside.nodes(self.sup) if node.name in self.running]
        for node in live:
            for other in (other for around in (node, *node.groups) for other in around.after if not other.over):
                for earlier in live:
                    if earlier is other or other in earlier.groups:
                        yield node.name, earlier.name

    # ---------------------------------------------------------------------------- the end

    async def end(self):
        if not self.sup.statistics().stopping:
            pairs = list(self.pairs())
        else:
            pairs = []  # it has shut itself down
        report = await asyncio.wait_for(self.sup.shutdown(reason="the end"), LIMIT)
        assert report.seconds < LIMIT / 2
        for later, earlier in pairs:
            if later in self.ended and earlier in self.ended:
                assert self.ended.index(later) < self.ended.index(earlier), f"{later} comes after {earlier}"
        for result in await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), LIMIT):
            assert not isinstance(result, BaseException) or isinstance(result, SupervisorError | ValueError), result
        for worker, node in self.handles.items():
            outcome = await asyncio.wait_for(worker.wait(), LIMIT)
            assert (worker.state, outcome.worker) == ("ended", node.name)
        self.look_behind(report)

    def look_behind(self, report):
        assert not self.wrong
        assert not self.running
        assert all(self.failures[node] <= limit + 1 for node, limit in self.limits.items())
        assert not report.abandoned
        assert self.sup.workers() == ()
        assert self.sup.statistics().threads == 0
        assert not inside.alarms_set(self.sup)
        assert not inside.nodes(self.sup)
        assert not inside.nodes_that_wait(self.sup)
        assert not [member for member in self.members if member.dependents]
        assert all(group.report is not None for group in self.groups)
        assert max(Counter(outcome.worker for outcome in report.outcomes).values(), default=1) == 1
        for group in self.groups[1:]:
            assert all(outcome.worker.startswith(f"{group.name}/") for outcome in group.report.outcomes)


@pytest.mark.timeout(240)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(root=groups, tree=tree, acts=acts, pause=st.sampled_from([0, 0, 0.002, 0.02]))
def test_whatever_happens_in_a_tree_it_ends_in_order_and_leaves_nothing(root, tree, acts, pause):
    problems = []

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        mine = Tree(root)
        await mine.sup.run(int)
        for act in tree:
            await mine.act(*act)
            await asyncio.sleep(0.001)
        for act in acts:
            await mine.act(*act)
        await asyncio.sleep(pause)
        mine.note()
        await mine.end()

    asyncio.run(story())
    assert not problems


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@settings(max_examples=6)
@given(limit=st.integers(0, 3), siblings=st.integers(0, 2))
def test_a_worker_is_started_again_as_often_as_it_may_and_no_more(strategy, limit, siblings):
    runs = []

    def fail(ctx):
        runs.append(ctx.attempt)
        raise ValueError(ctx.name)

    async def story():
        async with Supervisor(policy=POLICY, strategy=strategy, logger=Silent()) as sup:
            for _ in range(siblings):
                await sup.start(lambda ctx: ctx.stop.wait(LIMIT), restart=Restart("always"))
            failing = await sup.start(fail, restart=Restart("failure", max_restarts=limit, within=600, backoff=0))
            await asyncio.wait_for(failing.wait(), LIMIT)

    asyncio.run(story())
    assert runs == list(range(1, limit + 2))


async def test_who_waits_for_another_is_looked_at_as_that_one_changes_and_not_at_each_event(monkeypatch):
    """Else each of many ends, or starts, would cost as much as there are that wait."""
    looked_at, give_turn, many = [], inside.tree.Tree.give_turn, 30

    def look(tree, node):
        looked_at.append(node.name)
        give_turn(tree, node)

    monkeypatch.setattr(inside.tree.Tree, "give_turn", look)
    up = threading.Event()
    up.set()

    def base(ctx):
        assert up.wait(LIMIT)
        ctx.ready()
        ctx.stop.wait()

    async with Supervisor() as sup:
        group = sup.group("g", strategy="one_for_all", restart=Restart("always"))
        first = await group.start(base, name="base", ready_timeout=LIMIT)
        for n in range(many):
            await group.start(lambda ctx: ctx.stop.wait(), name=f"w{n}", after=("base",))
        up.clear()
        restarting = asyncio.create_task(first.restart())
        await until(lambda: first.attempt == 2)
        looked_at.clear()
        for _ in range(many):
            await (await sup.start(lambda ctx: None)).wait()
        assert not looked_at
        up.set()
        await restarting
        await until(lambda: all(worker.state == "running" for worker in sup.workers()))
        assert len(looked_at) <= 3 * many
