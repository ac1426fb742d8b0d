"""The one module through which the tests reach what is private in the library.

Whoever renames or moves something private mends this module, and no test. Single parts are given as they are, to be
tested by themselves; whatever looks into a supervisor is a function here, named for what it finds.
"""

import ast
import asyncio
import contextlib
import fcntl
import inspect
import linecache
import os
import select
import socket
import sys
import termios
import threading
import time
from collections import deque
from pickle import loads
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import NamedTuple

from supervisor import Restart
from supervisor._api import anyio_proof, checks, cpus, forgotten, iteration, mapping, windows, worker
from supervisor._api import control as api_control
from supervisor._api.binding import everyone
from supervisor._api.cpus import cpu_quota, usable_cpus
from supervisor._api.ports import integration_of
from supervisor._cli.main import COMMANDS
from supervisor._cli.main import main as command_line
from supervisor._cli.tables import Cell, Column, age, table
from supervisor._cli.terminal import Terminal, cells
from supervisor._control import protocol as control_protocol
from supervisor._control import server as control_server
from supervisor._control.client import Connection, sockets
from supervisor._control.protocol import ControlError
from supervisor._core import ladder, verdict
from supervisor._core.blocked import blocked, blocked_at_the_end
from supervisor._core.outcome import Ended, make_outcome, make_transition
from supervisor._core.policy import StepName
from supervisor._kinds.processes import kind, launch, probe, process, recycling, spare, tending, wire
from supervisor._kinds.processes import pool as pool_of_processes
from supervisor._kinds.processes.child import lookout
from supervisor._kinds.processes.child.forward import Forwarder
from supervisor._kinds.processes.child.lookout import Lookout, Wakeful
from supervisor._kinds.processes.child.produce import Outlet
from supervisor._kinds.processes.oom import OomKills
from supervisor._kinds.processes.pickling import pickled_call
from supervisor._kinds.processes.pool import Pool
from supervisor._kinds.processes.probe import Probe
from supervisor._kinds.processes.process import Process
from supervisor._kinds.processes.reaping import is_dead
from supervisor._kinds.processes.stream import BYTES_A_TURN, Stream
from supervisor._kinds.processes.usage import Census, rss, share, usage
from supervisor._kinds.processes.vigil import Vigil
from supervisor._kinds.processes.wire import (
    CAPACITY,
    HEAD,
    STACK,
    STACK_IN_C,
    BrokenFrame,
    Receiver,
    framed,
    message,
    write,
)
from supervisor._kinds.threads import Threads, gate, managed, wake_signal
from supervisor._kinds.threads import launcher as thread_launcher
from supervisor._kinds.threads import pool as pool_of_threads
from supervisor._kinds.threads import queue as thread_queue
from supervisor._kinds.threads.gate import MISSING, Gate, Shield, injection_missing
from supervisor._kinds.threads.launcher import Launcher, Start
from supervisor._kinds.threads.managed import ManagedPool
from supervisor._kinds.threads.queue import RunQueue, _Lock
from supervisor._kinds.threads.sections import known as thread_of_ours
from supervisor._kinds.threads.sections import left as leaving_thread
from supervisor._kinds.threads.tracers import anybody_traces
from supervisor._kinds.threads.wake_signal import WakeSignal
from supervisor._loop import agenda, alarms, aside, backlog, clock, inbox, pace, stalls
from supervisor._loop import outlast as outlasting
from supervisor._loop.agenda import Agenda
from supervisor._loop.alarms import Alarms
from supervisor._loop.errors import report_error
from supervisor._loop.inbox import TURN, Inbox
from supervisor._loop.outlast import outlast
from supervisor._loop.pace import Pace
from supervisor._loop.switching import FAST, hold, release
from supervisor._observe.notices import GroupEnded, RunSubmitted
from supervisor._observe.publisher import Publisher
from supervisor._observe.subscribers import Subscribers
from supervisor._run import chained, channel, futures, loop_call
from supervisor._run.cgroups import folders_of_groups
from supervisor._run.channel import Channel, Producer
from supervisor._run.futures import FutureLock, WorkFuture
from supervisor._run.run import Run
from supervisor._runtime import (
    calls,
    closing,
    draining,
    escalation,
    group_ends,
    groups,
    kinds,
    last_resort,
    loop_items,
    losses,
    names,
    pool_ends,
    portal,
    reports,
    rules,
    runtime,
    sampler,
    snapshot,
    stop_signals,
    teardown,
    tree,
    wakeups,
    watchdog,
    workers,
)
from supervisor._runtime import nodes as nodes_of_the_tree
from supervisor._runtime.closing import PATIENCE
from supervisor._runtime.deadlines import stop_deadlines
from supervisor._runtime.executor_calls import ExecutorCalls
from supervisor._runtime.health import health_of
from supervisor._runtime.nodes import GroupNode, WorkerNode
from supervisor._runtime.wakeups import WakeUps
from supervisor._worker.locks import ScopedLock
from supervisor._worker.stop_event import Chain
from supervisor.testing import fake_kind

__all__ = [  # single parts
    "BYTES_A_TURN",
    "CAPACITY",
    "COMMANDS",
    "FAST",
    "HEAD",
    "MISSING",
    "PATIENCE",
    "STACK",
    "STACK_IN_C",
    "TURN",
    "Agenda",
    "Alarms",
    "BrokenFrame",
    "Cell",
    "Census",
    "Chain",
    "Channel",
    "Column",
    "Connection",
    "ControlError",
    "Ended",
    "FutureLock",
    "Gate",
    "Inbox",
    "Lookout",
    "OomKills",
    "Pace",
    "Process",
    "Receiver",
    "RunSubmitted",
    "ScopedLock",
    "Shield",
    "StepName",
    "Subscribers",
    "Terminal",
    "Vigil",
    "WakeSignal",
    "WakeUps",
    "Wakeful",
    "age",
    "anybody_traces",
    "anyio_proof",
    "blocked",
    "blocked_at_the_end",
    "cells",
    "command_line",
    "control_protocol",
    "cpu_quota",
    "cpus",
    "folders_of_groups",
    "framed",
    "health_of",
    "hold",
    "injection_missing",
    "integration_of",
    "is_dead",
    "leaving_thread",
    "looks_through_calls",
    "make_outcome",
    "make_transition",
    "message",
    "outlast",
    "pickled_call",
    "release",
    "report_error",
    "rss",
    "share",
    "sockets",
    "start_thread",
    "stop_deadlines",
    "table",
    "thread_of_ours",
    "usable_cpus",
    "usage",
    "write",
]

# ------------------------------------------------------------------------------------------------ what is patched

CONSTANTS = {
    "ASKED_LEAST": (escalation,),
    "ASKING_TIME": (kind,),
    "BOOT": (launch,),
    "DYING_TIME": (kind,),
    "IDLE": (control_server,),
    "JOIN_SLACK": (closing,),
    "LINGER": (control_server,),
    "LEFT_GRACE": (portal,),
    "LONGEST_STACK": (control_server,),
    "LOOK": (control_server,),
    "LOOK_AGAIN": (portal, loop_items),
    "LOOK_FOR_WORK": (forgotten,),
    "LOOP_TURN": (control_server,),
    "LEAVE_TIMEOUT": (process,),
    "NO_FILES": (control_server,),
    "OFTEN": (sampler,),
    "PATIENCE": (lookout,),
    "POSIX": (checks,),
    "QUIET_SLACK": (closing,),
    "REMEMBERED": (losses,),
    "LAST_LEAST": (ladder,),
    "LAST_LOOK": (last_resort,),
    "SELDOM": (sampler,),
    "LAST_RESORT_SLACK": (last_resort,),
    "TURN": (alarms, backlog, inbox, last_resort, pace),
    "NOTICE": (inbox,),
    "WATCHDOG_SLACK": (watchdog,),
}
"""The constants that tests change, and the modules that read each."""


def live_screen():
    """Returns the class of the screen of `top`; only here, as it imports textual."""
    from supervisor._cli.live.app import Live

    return Live


def patch(monkeypatch, **constants):
    """Changes constants of the library, for a test."""
    for name, value in constants.items():
        for module in CONSTANTS[name]:
            monkeypatch.setattr(module, name, value)


def boot_after(monkeypatch, statement):
    """Has processes execute a statement before all else."""
    patch(monkeypatch, BOOT=statement + launch.BOOT)


def break_timer_of_drains(monkeypatch):
    """Has no drain end by itself."""
    monkeypatch.setattr(draining.Draining, "_arm", lambda *_: None)


def drains(held):
    """Whether a supervisor, a group or a pool that shuts down has asked all that it asks at once."""
    return held._scope.shutdown.all_asked


def pools_left(sup):
    """The names of the pools that are in use."""
    return [kind.settings.name for kind in sup._binding.runtime.kinds]


def looks_through_calls(monkeypatch):
    """Returns a list that grows each time that a shutdown looks through the calls of its scope."""
    looks, look = [], draining.Draining.sorted_calls

    def noted(self, scope):
        looks.append(scope)
        return look(self, scope)

    monkeypatch.setattr(draining.Draining, "sorted_calls", noted)
    return looks


def patch_health(monkeypatch, health):
    """Has this called, in place of `health_of`, for the health of a supervisor."""
    monkeypatch.setattr(snapshot, "health_of", health)


def measured_runs(monkeypatch):
    """Returns the list into which those runs come that have limits, in place of being measured."""
    runs = []
    monkeypatch.setattr(sampler.Sampler, "begin", lambda _, run: runs.append(run))
    return runs


def expected_to_be_slow(sup):
    """Of how many runs with seconds of their own a supervisor waits until they are slow."""
    return len(sup._binding.runtime._slowness._asked)


def patch_stacks_of_fakes(monkeypatch, stack):
    """Has fake workers stand there, or where a function says, or has nobody know where."""

    def of(kind, run):
        if isinstance(stack, Exception):
            raise stack
        return stack() if callable(stack) else stack

    monkeypatch.setattr(fake_kind.FakeKind, "stack", of)


def patch_chance(monkeypatch, chance):
    """Has supervisors that are used from here on throw these dice."""
    monkeypatch.setattr(runtime.random, "random", lambda: chance)


# ------------------------------------------------------------------------------------------------ lines to stand at


ASIDE = aside.__name__
start_thread = aside.start
GATE_FILE = gate.__file__
CHILD_FOLDER = probe.CHILD
LOOP_CALL_FILE = loop_call.__file__
"""Files and folders of the library that no stack of a worker's own code has a frame of."""


class Line(NamedTuple):
    """A line of the library's code, before which a test has a thread stand still."""

    code: CodeType
    begins: str


NOTES_AN_UNSEEN_END = Line(ExecutorCalls._end_unseen.__code__, "self._portal.unseen_end")
LISTS_A_CALL = Line(ExecutorCalls.submit.__code__, "self._list(run)")
LOOKS_FOR_A_SHUTDOWN = Line(ExecutorCalls.submit.__code__, "closed = self._shutdown.begun")
TAKES_A_RUN = Line(Threads._carry_out.__code__, "run.ident = get_ident()")
SETS_A_THREAD_UP = Line(ManagedPool._initialize.__code__, "run = seat.run = self._own_call")
LEAVES_WHEN_IDLE = Line(ManagedPool._idles_out.__code__, "with self._counting")
LOOKS_FOR_CALLS_AS_IT_LEAVES = Line(ManagedPool._idles_out.__code__, "if self._is_short()")
LEAVES_ITS_POOL = Line(pool_of_threads.Pool._leaves.__code__, "with self._counting")
CODE_OF_RECEIVER = [method.__code__ for method in vars(Receiver).values() if isinstance(method, FunctionType)]
CODE_OF_QUEUES = [
    method.__code__
    for each in (RunQueue, _Lock, thread_queue._Pipe)
    for method in vars(each).values()
    if isinstance(method, FunctionType)
]
SAYS_THAT_NO_THREAD_STARTS = Line(pool_of_threads.Pool._unserved.__code__, "self._post")
ASKS_A_PROCESS = Line(Probe._ask.__code__, "os.ftruncate")


def lines_of(function):
    """Each line of a function, once it has been entered."""
    code = function.__code__
    texts = {number: linecache.getline(code.co_filename, number).strip() for _, _, number in code.co_lines() if number}
    return [Line(code, text) for number, text in sorted(texts.items()) if number > code.co_firstlineno]


WAITS_FOR_ROOM = lines_of(Channel.wait_for_room)
WAITS_FOR_ITEMS = lines_of(Channel.wait)
PASSES_ITEMS_ON = [
    line for line in lines_of(Producer._pass_on) if line.begins.startswith(("for", "append", "if channel"))
]
PUTS_AN_ITEM = [*lines_of(Outlet.put), *lines_of(Outlet.flush)]
WAITS_FOR_THE_OWNER = lines_of(Outlet.wait_for_room)


def pass_on(producer, iterator, ctx):
    """Has a producer pass items on, in the thread that calls this."""
    producer._pass_on(iterator, ctx)


def never_by_time(outlet):
    """From here on, no item is sent for having waited long enough."""
    outlet._send_at = float("inf")


class Struck(NamedTuple):
    """Functions, in some modules, at whose every line the tests of interrupts strike."""

    modules: tuple[ModuleType, ...]
    functions: frozenset[str]

    def missing(self):
        """Those of the functions that are in none of the modules any more: there, nothing is struck."""
        there = {
            node.name
            for module in self.modules
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return self.functions - there


_ON_THE_LOOP = (
    agenda,
    alarms,
    clock,
    inbox,
    outlasting,
    runtime,
    snapshot,
    calls,
    escalation,
    workers,
    kinds,
    last_resort,
    names,
    rules,
    wakeups,
    worker,
    backlog,
    closing,
    draining,
    group_ends,
    pool_ends,
    teardown,
    groups,
    tree,
)
WHEN_CALLS_END = Struck(
    _ON_THE_LOOP,
    frozenset(
        "_rung _called drain _drain catch_up _arrived ended forget feed work _carry_out conclude concluded".split()
    ),
)
WHEN_A_FUTURE_IS_RESOLVED = Struck(
    (calls, futures), frozenset("resolve set_exception notify_all hand_on finish".split())
)
WHEN_ALARMS_RING = Struck(
    _ON_THE_LOOP,
    frozenset("_rung rung feed work _carry_out conclude concluded resolve forget stop give_climb _claim".split()),
)
WHEN_MANY_ARE_STARTED = Struck((pace,), frozenset({"_next_turn", "_let_go_on"}))
WHEN_A_LIMIT_IS_EXCEEDED = Struck(
    (agenda, alarms, runtime, calls, escalation, sampler),
    frozenset("_rung rung _look_in _by_kind _judge _stop set stop give_climb feed work _carry_out".split()),
)
WHEN_A_SHUTDOWN_ASKS = Struck(
    _ON_THE_LOOP,
    frozenset(
        "begin _begin hold _announce _ask_all _stop _stop_call _take_turn _work _ask_worker _all_asked stop give_climb"
        " _claim _perform announce _start end _end _arm _rung finish_if_quiet".split()
    ),
)
WHEN_A_GROUP_RESTARTS = Struck(
    (agenda, runtime, workers, escalation, names, groups, nodes_of_the_tree, tree),
    frozenset(
        "work feed run_ended readied _work_for _carry_out _note_restart _hear give_turn _release_waiting siblings"
        " begin_run _make_run _prepare _launch conclude concluded stop stop_members emptied fail begin _renewed add"
        " _finish _give_up let_go_on _stop_if_due _count_out insert remove enlist name_worker take".split()
    ),
)
WHEN_A_SCOPE_IS_SHUT_DOWN = Struck(
    (agenda, backlog, closing, draining, groups, group_ends, nodes_of_the_tree, pool_ends, reports, teardown, tree),
    frozenset(
        "work feed _work_for _carry_out stop stop_members emptied _finish let_go_on _stop_if_due _count_out remove"
        " begin _begin _begin_reports hold _retire _announce _ask_all _ask_pool _stop _stop_call _ask_group _ask_worker"
        " _all_asked _take_turn _work call_ended worker_ended close _close _has_ended finish_if_quiet _finish finish"
        " when_idle gone conclude close_inbox _pass_by_empty end _end _arm _rung open of _full".split()
    ),
)
WHEN_PROCESSES_COME_AND_GO = Struck(
    (kind, pool_of_processes, recycling, spare, tending),
    frozenset(
        "ended free up gone grow rest make take keep died judge by _next _find_use find_use_again _replace _dismiss"
        " _keep _refill _begin _join _is_short _note _could_not_start _tend _ring replace_idle _dismiss_idle".split()
    ),
)
WHEN_A_PROCESS_HAS_SAID_ITS_END = Struck((kind, verdict), frozenset({"ended", "converted", "converted_from_elsewhere"}))
WHEN_WORKERS_CALL = Struck(
    (portal, loop_call),
    frozenset("begin fit rung _ended _close _cancel answer reply stopped end leave".split()),
)

IN_AN_END_THAT_NOBODY_SEES = (portal.Portal, "unseen_end")
"""What the thread of an executor's call calls as it ends that by itself, before it takes it from the lists."""

PARTS_OF_THE_END_OF_A_POOL = (
    *((draining.Draining, name) for name in ("begin", "_end", "_arm")),
    *((pool_ends.PoolEnds, name) for name in ("close", "close_all")),
    (reports.Reports, "_full"),
    (teardown.Teardown, "_ask_pool"),
    *((Threads, name) for name in ("when_gone", "retire", "join")),
)

WHEN_ITEMS_COME = Struck(
    (iteration, mapping, windows, channel),
    frozenset(
        "__anext__ _begin _next _take _ended _give_way _end _drop _leave leave refill _tell make_room wait wake done"
        " __aenter__ aclose feed add take change _result _fill _read _note_end _add_some _list _make_room next ended"
        " set_result set_exception cancel _ends".split()
    ),
)
WHEN_ITEMS_COME_FROM_A_PROCESS = Struck(
    (channel, kind), frozenset("arrive refill _tell wait wake _items _say_taken".split())
)

PARTS_OF_A_STOP = (
    *((Alarms, name) for name in ("set", "forget", "close")),
    *((backlog.Backlog, name) for name in ("add", "go_on")),
    *((calls.Calls, name) for name in ("concluded", "resolve", "forget")),
    *((closing.Closing, name) for name in ("when_idle", "close", "conclude", "close_inbox", "call_off")),
    *((escalation.Escalation, name) for name in ("abandon", "_perform", "conclude", "give_climb", "stop")),
    (escalation, "outcome_of"),
    (escalation, "decide"),
    (groups.Groups, "stop_members"),
    (names.Names, "release"),
    *((portal.Portal, name) for name in ("hasten", "end", "fit")),
    *((Publisher, name) for name in ("transition", "ended")),
    (rules.RuleBook, "_of"),
    *((stop_signals.StopSignals, name) for name in ("give_up", "put_back")),
    *((teardown.Teardown, name) for name in ("_ask_all", "_ask_worker", "call_ended", "worker_ended", "_all_asked")),
    *((teardown.Teardown, name) for name in ("finish_if_quiet", "_announce")),
    *((draining.Draining, name) for name in ("begin", "_stop_call")),
    (group_ends.GroupEnds, "close"),
    (reports.Reports, "_full"),
    *((Threads, name) for name in ("perform", "stack", "abandon", "when_gone", "join")),
    *((tree.Tree, name) for name in ("close", "stop", "feed", "run_ended", "_finish", "let_go_on")),
    (tree, "decide_life"),
    (wakeups.WakeUps, "announce"),
    *((workers.Workers, name) for name in ("concluded", "ended", "deadline", "begin_run")),
)
"""Functions that a stop, or a shutdown, comes to: whose each is, and its name."""


PUTS_A_WAITER_INTO_THE_CHAIN = (Chain, "add")
PARTS_OF_A_DEATH = (
    (Probe, "close"),
    (Stream, "close"),
    *((Process, name) for name in ("kill", "_reap", "_unwatch")),
    (Pool, "gone"),
)
"""Functions that the end of a process comes to: whose each is, and its name."""


@contextlib.contextmanager
def deaf_machine(monkeypatch):
    """Meanwhile no run takes note of a stop, whoever asks for it."""
    with monkeypatch.context() as patched:
        patched.setattr(escalation, "decide", lambda state, event, now, rules: (state, ()))
        yield


@contextlib.contextmanager
def interrupted_once_a_group_has_ended(monkeypatch):
    """Meanwhile an interrupt strikes when the first group has ended and its report is made; gives a list of strikes."""
    publish, struck = Publisher.publish, []

    def interrupted(self, notice):
        publish(self, notice)
        if isinstance(notice, GroupEnded) and not struck:
            struck.append(notice)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", interrupted)
        patched.setattr(Inbox, "catch_up", lambda self: None)  # as where the loop has looked for too long
        yield struck


@contextlib.contextmanager
def deaf_inbox(monkeypatch):
    """Meanwhile nothing is heard of what comes in from other threads."""
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "drain", lambda self, limit=None: None)
        patched.setattr(Inbox, "catch_up", lambda self: None)
        patched.setattr(Inbox, "_take_turn", lambda self: None)
        yield


@contextlib.contextmanager
def no_further_runs(monkeypatch, sup):
    """Meanwhile no run of a worker can be begun."""

    def begin(node):
        raise MemoryError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(sup._binding.reach().tree, "_begin_run", begin)
        yield


# ------------------------------------------------------------------------------------------------ a supervisor


def is_used(sup):
    """Whether it is bound to a loop."""
    return sup._binding.runtime is not None


def settings(sup):
    return sup._binding.settings


def clock_of(sup):
    return sup._binding.reach().clock


def default_policy(sup):
    return sup._binding.reach().rules.default_policy


def steps_of_a_call_that_is_cancelled(sup):
    return sup._binding.reach().rules.make(None, "thread", False, False).own_steps


def has_subscribers(sup):
    """Whether anybody has its calls watched."""
    return bool(sup._binding.subscribers)


def has_any_subscriber(sup):
    """Whether anybody receives anything of what it publishes."""
    return sup._binding.subscribers.anybody


@contextlib.contextmanager
def subscribed(sup, receive):
    sup._binding.subscribers.subscribe(receive)
    try:
        yield
    finally:
        sup._binding.subscribers.unsubscribe(receive)


def counters(sup):
    return sup._binding.subscribers.counters


def break_counters(*sups):
    """From here on, whatever they count raises a TypeError."""
    for sup in sups:
        for counting in counters(sup):
            counting.unseen = counting.transitions = None


def logs_debug(sup):
    return sup._binding.reach().log.debug is not None


def questions_to_loops(monkeypatch):
    """The list into which comes each question to a loop whether it is blocked."""
    asked = []
    ask = stalls.Watch._ask

    def noted(watch, loop):
        asked.append(loop)
        ask(watch, loop)

    monkeypatch.setattr(stalls.Watch, "_ask", noted)
    return asked


def told_of_a_loop_that_never_answers(monkeypatch, *, after, late, held):
    """For how long it is said to be blocked; the thread that watches it is late by so many seconds at each look."""
    moments = iter(late)
    now = 0.0
    told = []

    class Loop:
        def __init__(self):
            self.looks = len(late)

        def is_running(self):
            return True

        def is_closed(self):
            self.looks -= 1
            return self.looks < 0

        def call_soon_threadsafe(self, *_, **__):
            pass

    class Wake:
        def acquire(self, timeout=0):
            nonlocal now
            now += timeout + next(moments)

        def release(self):
            pass

    class Told(stalls.Watched):
        def stalled(self, seconds, frames, *, first, held):
            told.append(seconds)

        def recovered(self, seconds):
            raise AssertionError

    monkeypatch.setattr(stalls, "monotonic", lambda: now)
    monkeypatch.setattr(stalls, "_held", lambda *_: held)
    loop, watched = Loop(), Told(after)
    watch = stalls.Watch(loop)
    watch._ident = -1
    watch._wake = Wake()
    watch.add(watched)
    watch._run()
    return told


def hold_looks_of_watches(monkeypatch, looks, go_on):
    """Has whoever watches a loop stand still at the end of a look, which it says, until it may go on."""
    look = stalls.Watch._look

    def held(*args, **kwargs):
        pause = look(*args, **kwargs)
        looks.set()
        go_on.wait(20)
        return pause

    monkeypatch.setattr(stalls.Watch, "_look", held)


def take_wake_signals_away():
    """Takes away the handlers of supervisors that nobody has shut down, as other tests leave some on purpose."""
    with wake_signal._lock:
        for number, users in wake_signal._users.items():
            users.clear()
            if wake_signal._is_ours(number):
                wake_signal._set(number, wake_signal._DEFAULT)


def patch_starts_of_watches(monkeypatch, start):
    monkeypatch.setattr(stalls.Watch, "start", start)


def threads_named(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def alarms_set(sup):
    """How many alarms it has set, for things that are over included."""
    return len(sup._binding.reach()._alarms._heap)


def ended_future(sup):
    """A future of an executor that is about to be done, and what its thread does for that."""
    future = WorkFuture(sup.executor())
    future.calls = sup._binding.reach().executor_calls
    return future, lambda: future.set_result(1)


def all_wait_for(future, by_condition, by_waiter):
    """Whether as many threads wait for a future, in its own methods and in functions for several futures."""
    condition = future._condition._condition
    return condition is not None and len(condition._waiters) == by_condition and len(future._waiters) == by_waiter


def know_no_callback_of_asyncio(monkeypatch):
    """As in a Python whose asyncio takes over the results of futures in another way."""
    monkeypatch.setattr(chained, "_code", None)


def run_queue(*, timed=False):
    return RunQueue(timed=timed)


def launcher(supervisor):
    return Launcher(supervisor)


def start_threads_by(monkeypatch, start):
    """Whoever starts a thread of ours goes this way."""
    monkeypatch.setattr(thread_launcher, "aside", SimpleNamespace(start=start))


def hold_threads_back(monkeypatch, until):
    """Each thread of ours that is started comes up once an Event is set."""
    come_up = threading.Thread._set_ident

    def held_back(self):
        if isinstance(self, thread_launcher._Thread):
            until.wait(20)
        come_up(self)

    monkeypatch.setattr(threading.Thread, "_set_ident", held_back)


def queue_of_threads(sup, pool="thread"):
    return sup._binding.reach().kinds.get(pool).pool._queue


def fall_asleep(queue):
    """A thread is about to wait for a call."""
    queue._asleep.append(None)


def put_as_one_falls_asleep(queue, run):
    """A call is put there at the very moment at which a thread has said that it sleeps."""

    class Asleep(deque):
        def append(self, nothing):
            super().append(nothing)
            queue.put(run)

    queue._asleep = Asleep()


def sleepers(queue):
    """How many threads wait for a call, and are not called."""
    return len(queue._asleep)


def calls_for_threads(queue):
    """How many threads are called that have not heard it."""
    wakeups = queue._wakeups
    if isinstance(wakeups, _Lock):
        return wakeups._calls.qsize()
    return int.from_bytes(fcntl.ioctl(wakeups._reads, termios.FIONREAD, bytes(4)), sys.byteorder)


def wake_and_end(queue):
    """A thread hears that it is called, and ends before it has looked."""
    queue._wakeups.wait(None)


def wake_up(queue):
    """A thread hears that it is called, and is about to look."""
    queue._wakeups.wait(None)
    queue._called = False


def files_of(queue):
    """The numbers of the files by which it wakes threads."""
    wakeups = queue._wakeups
    return [] if isinstance(wakeups, _Lock) else [wakeups._reads, wakeups._writes]


def lose_the_interpreter(monkeypatch):
    """Whoever lets go of the interpreter to wake a thread loses it for 5 ms; returns the clock, and who did so."""
    clock, lost, write = SimpleNamespace(now=100.0), [], os.write

    def let_go_and_write(file, data):
        write(file, data)
        lost.append(file)
        clock.now += 0.005

    monkeypatch.setattr(thread_queue, "monotonic", lambda: clock.now)
    monkeypatch.setattr(thread_queue, "os", SimpleNamespace(**{**vars(os), "write": let_go_and_write}))
    return clock, lost


@contextlib.contextmanager
def interrupted_once_as_it_wakes(queue):
    """Whoever wakes a thread meanwhile is interrupted, the first time."""
    wakeups, struck = queue._wakeups, []

    def call():
        if not struck:
            struck.append(True)
            raise KeyboardInterrupt
        wakeups.call()

    queue._wakeups = SimpleNamespace(call=call, wait=wakeups.wait, call_in_c=wakeups.call_in_c)
    yield
    queue._wakeups = wakeups


def names_taken(sup):
    return sup._binding.reach().names.taken


def post(sup, *items):
    """Has something arrived in its inbox."""
    for item in items:
        sup._binding.runtime._inbox.post(item)


def is_ending(worker):
    """Whether the end of its run is in the inbox."""
    return run_of(worker).ending


def has_returned(run):
    """Whether its thread has come to the end of it; the loop may not have heard of that."""
    return run.ending


def has_spoken(run):
    """Whether its process has said something that the loop has not read."""
    return bool(select.select([run.handle.data._sock], [], [], 0)[0])


def an_end_is_posted(sup):
    """Whether the end of a run has come in from another thread, and the loop has not looked at it."""
    return any(isinstance(item, Run) for item in tuple(sup._binding.reach()._inbox._items))


def first_signal(sup):
    return sup._binding.runtime.signals.first


def throw_dice(sup):
    return sup._binding.reach().tree._chance()


def copied_by_a_fork(*sups):
    """Does with supervisors what happens to them in a process that is forked; returns what shuts the first one down."""
    original = sups[0]._binding.runtime
    for sup in sups:
        sup._binding._forked()

    async def shut_down():
        original.teardown.begin(original.root)
        while original.shutdown.report is None:
            await asyncio.sleep(0)

    return shut_down


def ask_all():
    """Asks all workers and calls to stop, of whichever supervisor, without its loop."""
    for binding in everyone():
        for found in binding.runtimes():
            for run in found.snapshot.live():
                found.escalation.ask_alone(run)
            found._chain.release_all()


def let_go_of_all():
    """Ends, as far as that is possible, what was not shut down and has no loop any more; nobody hears of it again."""
    for binding in everyone():
        for found in binding.runtimes():
            if found.shutdown.report is None and not found.loop.is_running():
                found.let_go()
                found.shutdown.report = "never"


def let_go(sup):
    """Ends a worker whose loop is closed, and has the supervisor taken for one that was shut down."""
    for run in sup._binding.runtime.snapshot.live():
        run.ctx.stop.set()
        run.ctx.stop.release()
    forget(sup)


def forget(sup):
    """Has a supervisor taken for one that was shut down."""
    sup._binding.runtime.shutdown.report = "never"


# ------------------------------------------------------------------------------------------------ runs


def runs(sup):
    """Its runs that have not ended, calls and those of workers, in the order in which they came."""
    return list(sup._binding.reach().snapshot.live())


def run_of(worker):
    return worker._run


def run_of_call(future):
    """The run of a call that `run_in_executor` has made."""
    return future.run


def loop_view(sup):
    """What the loop gets for its `run_in_executor`."""
    return sup._view_of("thread")


def steps_of(run):
    """The step at which a run is that is being stopped, and those that come later."""
    state = run.climb.state
    return [state.step, *state.later]


def time_of_step(sup, worker):
    """Seconds until the stop of a worker comes to its last moment."""
    return worker._run.state.deadline - clock_of(sup)()


def held_by(run):
    """What a run holds on to of its call: its arguments, its context variables, and its function's name."""
    return run.args, run.context, run.fn.__name__


def is_watched(run):
    return run.watched


def waits_for_stop(worker):
    """Whether somebody waits for the stop Event of its run, or is about to: a stop wakes it."""
    return bool(run_of(worker).ctx.stop._waiters)


def gates(sup):
    """The gates of its runs on threads."""
    return [run.handle for run in sup._binding.reach().snapshot.live()]


def depth_of_shield(sup):
    """How deep in shields the run is that this very thread carries out."""
    (mine,) = [run for run in sup._binding.runtime.snapshot.live() if run.ident == threading.get_ident()]
    return mine.handle.depth


def stop_with_a_late_look(monkeypatch, sup, meanwhile):
    """Stops its first run; just before the loop looks a last time for what came in, something happens meanwhile.

    It must lead to the end of a run.
    """
    inside = sup._binding.reach()
    look = inside._inbox.catch_up

    def late():
        meanwhile()
        while not an_end_is_posted(sup):
            pass
        look()

    run = inside.snapshot.live()[0]
    inside.escalation.give_climb(run, "stop", "")
    with monkeypatch.context() as patched:
        patched.setattr(inside._inbox, "catch_up", late)
        inside.escalation.feed(run, ladder.StopAsked("stop"))


# ------------------------------------------------------------------------------------------------ groups


def nodes(sup):
    """The nodes of all workers that are in the tree, from any thread."""
    return list(sup._binding.reach().tree.workers.values())


def nodes_that_wait(sup):
    """Those that wait for others before they go on."""
    return sup._binding.reach().tree._waiting


def node_of(group):
    return group._scope


def begun_with(group):
    """The workers with which a group would begin anew."""
    return group._scope.originals


def waits_for(group):
    """Who waits for a group to be ready, to close, or for a signal."""
    return group._scope.waiters


def group_node(parent=None, after=()):
    """A group by itself."""
    if parent is None:
        return GroupNode(None, "one_for_one", "give_up")
    return GroupNode(parent, "one_for_one", "escalate", after=after)


class _Kind:
    name = "thread"


def worker_node(group, after=()):
    """A worker by itself, which never runs."""
    made = WorkerNode(
        group, _Kind(), print, (), name=None, policy=None, restart=Restart(), heartbeat=None, ready_timeout=None,
        after=after, limits=None, slow_after=None,
    )  # fmt: skip
    made.number = id(made)
    group.insert(made)
    return made


# ------------------------------------------------------------------------------------------------ executors


def under_way(executor):
    """The calls of an executor that have not ended."""
    return executor._under_way()


def default_executor(sup):
    return sup._default


def clock_of_late_calls(sup):
    return sup._binding.late.clock


# ------------------------------------------------------------------------------------------------ calls to the loop


def calls_open(sup):
    """What workers have called in the loop, and has not ended."""
    return sup._binding.reach().portal.open


def tasks_of_calls(sup):
    return sup._binding.reach().portal._tasks


# ------------------------------------------------------------------------------------------------ threads


class ThreadPool(NamedTuple):
    size: int
    stuck: int
    capacity: int


def pool_of(sup, name):
    """What is known of a pool of threads: how many there are, and its `readiness`."""
    kind = sup._binding.reach().kinds.get(name)
    return SimpleNamespace(size=kind.pool.size, readiness=kind.readiness)


def have_injected_functions_end_at_once(monkeypatch):
    """An injection into a thread takes until the function has ended; who injects stands still meanwhile."""
    inject = Threads._inject

    def injected(self, run, *args):
        missing, until = inject(self, run, *args), clock.monotonic() + 20
        while run.ctx is not None and clock.monotonic() < until:
            time.sleep(0.001)
        return missing

    monkeypatch.setattr(Threads, "_inject", injected)


def heirs(sup, name):
    """How many threads of a pool are about to take the places of others."""
    return len(sup._binding.reach().kinds.get(name).pool._heirs)


def end_lifetimes(sup, name):
    """Has the lifetimes of all threads of a pool be over."""
    for seat in tuple(sup._binding.reach().kinds.get(name).pool._seats):
        seat.ends_at = 0.0


def make_heirs_meet(monkeypatch, number):
    """Has none of the next threads that want an heir have one, before so many of them are about to."""
    make, first, meeting = managed.Seat, deque(range(number)), threading.Barrier(number)

    def made(elder=None):
        if elder is not None and first:
            first.pop()
            meeting.wait(20)
        return make(elder)

    monkeypatch.setattr(managed, "Seat", made)


def may_try_again(sup, name):
    """Whether the next call of a pool of threads may have it try to set up one more, in place of one that goes on."""
    return sup._binding.reach().kinds.get(name).pool._not_before < clock.monotonic()


def threads(sup):
    """Its threads for calls: how many there are, how many are given up, and how many calls they can carry out."""
    found = sup._binding.reach().kinds.threads.pool
    return ThreadPool(found.size, found.stuck, found.capacity)


def _readiness(sup, pool):
    return sup._binding.reach().kinds.get(pool).readiness


def fail_pool(sup, pool, error):
    """A pool of fakes cannot come up."""
    _readiness(sup, pool).close(error)


def await_warm(sup, pool, number):
    """A pool of fakes is to keep so many warm, none of which is up."""
    _readiness(sup, pool)._least = number


def note_up(sup, pool, number):
    """Of a pool of fakes so many are up."""
    _readiness(sup, pool).note(0, number, 0.0)


def default_executor_of(loop):
    return loop._default_executor


def patch_start_of_threads(monkeypatch, start):
    """Has this called in place of starting a thread."""
    monkeypatch.setattr(aside, "start", start)


def retire_threads(sup):
    """Ends its threads that are idle, of which nobody else takes care once its loop is gone, and waits for them."""
    sup._binding.reach().kinds.threads.retire()
    for thread in tuple(sup._binding.reach().kinds.threads.launcher.living):
        thread.join(5)


def defer(in_gate, error):
    """Has an error wait in a gate for the end of the shield."""
    in_gate._deferred.append(error)


def is_closed(by_us):
    """Whether this thread has closed a gate."""
    return by_us._lock._is_owned()


OF_A_MANAGED_THREAD = tuple(
    function.__code__ for function in vars(ManagedPool).values() if hasattr(function, "__code__")
)
STARTS_THE_NEXT = tuple(getattr(Launcher, name).__code__ for name in ("_next", "_start", "_first", "_head", "_drop"))
OF_A_THREAD = (
    (Launcher._run.__code__, Launcher._begin.__code__, Start.take.__code__, *STARTS_THE_NEXT),
    (pool_of_threads.Pool._serve.__code__, pool_of_threads.Pool._take_calls.__code__),
    OF_A_MANAGED_THREAD,
    (ExecutorCalls.settle.__code__, ExecutorCalls._end_unseen.__code__, calls.Calls.resolve.__code__),
)
"""What a thread of a pool executes beside the functions of calls."""

STARTS_A_THREAD = (
    Launcher.launch.__code__,
    *STARTS_THE_NEXT,
    pool_of_threads.Pool.submit.__code__,
    pool_of_threads.Pool._grow.__code__,
)
"""What starts a thread for a call, in the thread of who makes the call."""


@contextlib.contextmanager
def struck_once_it_has_claimed(monkeypatch, error):
    """The next thread that claims a run is struck right after that."""
    from supervisor._kinds.threads import kind as threads_kind

    left = [error]

    def struck():
        if left:
            raise left.pop()
        return threading.get_ident()

    with monkeypatch.context() as patched:
        patched.setattr(threads_kind, "Gate", lambda: Gate() if not left else struck())
        yield


injecting = gate._injecting
"""The lock that is held during each injection."""

# ------------------------------------------------------------------------------------------------ processes


def processes(sup, pool="process"):
    """All its processes, in the order in which they were begun."""
    return list(_pool(sup, pool).every)


def processes_for_calls(sup, pool="process"):
    return list(_pool(sup, pool)._counted)


def idle_processes(sup, pool="process"):
    return list(_pool(sup, pool)._idle)


def renew(sup, pool):
    """Has other processes take the places of all, as soon as they have nothing to do."""
    _pool(sup, pool).renew()


def resize_below_warm(sup, pool, size):
    """Gives a pool another size, which may be less than are kept warm."""
    sup._binding.resize_pool(pool, size, below_warm=True)


def note_when_taken(future, seen):
    """Has the number of the process be noted that takes a call of an executor."""
    future.run.taken = lambda run: seen.append(run.pid)


def asked_for_spares(sup, pool, monkeypatch):
    """Returns a list that grows each time that a pool looks whether it is to start its spare process."""
    spare, asked = _pool(sup, pool)._spare, []
    make = spare.make
    monkeypatch.setattr(spare, "make", lambda: asked.append(1) or make())
    return asked


def spare_process(sup, pool="process"):
    """The one that is kept warm; None where there is none."""
    return _pool(sup, pool)._spare.process


def warming(sup, pool):
    """Seconds for which an initializer was under way, and nobody ready."""
    return sup._binding.reach().kinds.get(pool).readiness.warming(clock_of(sup)())


def ready_for_calls(sup, pool):
    """How many of a pool take calls; they may carry one out."""
    return sum(process.ready and not process.retired for process in processes_for_calls(sup, pool))


def start_is_timed(process):
    """Whether a process is killed unless it is ready in time."""
    return process._timer is not None


def timers_of_idle_processes(loop):
    return [timer for timer in loop._scheduled if "Tending" in repr(timer) and not timer.cancelled()]


def process_of(run):
    return run.handle


def has_said(process, what):
    """Whether something that a process has said is there for the loop to hear."""
    try:
        return what in process.data._sock.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def is_sending(to):
    """Whether a process has not taken yet all that goes to it."""
    return bool(to.data._out)


def _pool(sup, pool="process"):
    return sup._binding.reach().kinds.get(pool).pool


@contextlib.contextmanager
def given_up(sup):
    """Has all its processes taken for such as SIGKILL has not ended."""
    abandoned = sup._binding.reach().escalation.abandoned
    lost = {-process.pid: SimpleNamespace(pid=process.pid, ident=None) for process in processes(sup)}
    abandoned.update(lost)
    yield
    for number in lost:
        del abandoned[number]


def failing_sends(process, error):
    """Has whatever is sent to a process fail from here on."""
    process.data._sock = _FailingSocket(process.data._sock, error)


class _FailingSocket:
    def __init__(self, sock, error):
        self._sock = sock
        self._error = error

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def send(self, _):
        raise self._error

    sendmsg = send


@contextlib.contextmanager
def launches(launched):
    """Meanwhile calls this with each process that is launched, of whichever supervisor."""
    make = Process.__init__

    def recorded(self, *args, **kwargs):
        make(self, *args, **kwargs)
        launched(self)

    Process.__init__ = recorded
    try:
        yield
    finally:
        Process.__init__ = make


def forwarder(send):
    """What forwards log events in a process."""
    return Forwarder(send, lambda: ("w", 1))


def forward(by_it, **event):
    by_it._put("info", event)


def said(parts):
    """What a message says."""
    return loads(bytes(parts[0])[HEAD:])


def no_messages(monkeypatch, error):
    """A process cannot be told that it is to end."""

    def fail(*parts):
        raise error

    monkeypatch.setattr(kind, "message", fail)


def stops(monkeypatch):
    """A list that gets each call that is stopped by itself, and not with all others."""
    stopped, stop = [], calls.Calls.stop
    monkeypatch.setattr(calls.Calls, "stop", lambda self, run, *why: stopped.append(run) or stop(self, run, *why))
    return stopped


def fail_to_dismiss_once(sup, error):
    """The first thread that is to end is not told so at the first time."""
    pool = sup._binding.reach().kinds.threads.pool
    queue = pool._queue

    def put(item):
        pool._queue = queue
        raise error

    pool._queue = SimpleNamespace(put=put)


def no_stacks(monkeypatch, error):
    """Nobody learns where a process stands."""

    def fail(self, run):
        raise error

    monkeypatch.setattr(kind.Processes, "stack", fail)


def tries_to_launch(monkeypatch, sup):
    """A list that gets an entry for each process that the supervisor begins to launch."""
    tries, spare = [], _pool(sup)._spare
    launch = spare._launch
    monkeypatch.setattr(spare, "_launch", lambda: tries.append(1) or launch())
    return tries


def signals_sent(monkeypatch):
    """A list that gets the number of each signal that is sent to a process, not to its group."""
    sent, send = [], Process.signal

    def recorded(self, number):
        sent.append(number)
        send(self, number)

    monkeypatch.setattr(Process, "signal", recorded)
    return sent


def deafen(monkeypatch, deaf, *, group_only=False):
    """No signal reaches a process; or none that is sent to its group."""
    monkeypatch.setattr(deaf, "_signal_group", lambda number: True)
    if not group_only:
        monkeypatch.setattr(deaf, "signal", lambda number: None)


def patch_look_into_c(monkeypatch, look):
    """Has this called, in place of a look at what the kernel says, to find out whether a process is in C code."""
    monkeypatch.setattr(probe._Silence, "is_in_c", look)


def has_written_its_stack(process):
    return os.fstat(process._probe._file.fileno()).st_size > 0


is_whole_stack = probe.is_whole
last_stack = probe.last_stack

_LOADED = {
    "_core": ("errors", "values"),
    "_kinds": (),
    "_kinds.processes": ("wire",),
    "_kinds.processes.child": ("backend", "gate", "lookout", "main", "serve"),
    "_worker": ("context", "current", "remote_errors", "stop_event"),
}
MODULES_OF_A_CHILD = {"supervisor"}.union(
    *({f"supervisor.{folder}", *(f"supervisor.{folder}.{name}" for name in names)} for folder, names in _LOADED.items())
)
"""What of the library a process has loaded when it is up."""


def make_room_at_once(monkeypatch, size):
    """Has receivers make room for no more than so many bytes because a frame says that they will come."""
    monkeypatch.setattr(wire, "AT_ONCE", size)


def let_look(of, poll):
    """Has a lookout ask this in place of its socket."""
    of._poll = poll


def is_awake(vigil):
    """Whether the loop takes a turn for it."""
    return vigil._awake


def turn_of(vigil):
    return vigil._turn


def stream_that_receives(receive, sock, hear):
    """A stream on the running loop, into whose buffer this function writes what comes in."""
    made = Stream(asyncio.get_running_loop(), sock, hear, lambda error: None)
    made._receiver = Receiver(receive)
    return made


# ------------------------------------------------------------------------------------------------ the loop's parts


def alarms_in(these):
    return len(these._heap)


def ring_alarms(these):
    these._rung()


def inbox_with(items, handle, *, armed):
    """An inbox in which something is already; somebody has rung."""
    made = Inbox(asyncio.get_running_loop(), handle)
    made._items.extend(items)
    made._armed = armed
    made._bell.ring()
    return made


def is_rung(its_inbox):
    return bool(select.select([its_inbox._bell.fd], [], [], 0)[0])


def take_turn(its_inbox):
    """What the loop does when it hears the bell."""
    its_inbox._rung()


IN_A_TURN = Line(Inbox._rung.__code__, "")
IN_A_POST = Line(Inbox.post.__code__, "")
IN_AN_AGENDA = Line(Agenda.work.__code__, "")


class StruckInbox(Inbox):
    """Whoever wakes the loop for it is interrupted, once."""

    struck = False

    def _wake(self):
        if not self.struck:
            self.struck = True
            raise KeyboardInterrupt
        super()._wake()


# ------------------------------------------------------------------------------------------------ what users hold


def set_time(virtual, now):
    virtual._now = now


def wait_for_nothing_real(virtual):
    """Has virtual time go on at once, since nothing that a test does is real."""
    virtual._patience = 0


def waits_for_a_run(fakes):
    return fakes._waiting


def interrupt_what_clients_want(monkeypatch):
    """Has a KeyboardInterrupt strike, once, as the loop does what a client of a control socket wants."""
    done, struck = api_control.ControlPort._done, []

    def strike(port, deed):
        if not struck:
            struck.append(deed)
            raise KeyboardInterrupt
        return done(port, deed)

    monkeypatch.setattr(api_control.ControlPort, "_done", strike)


def subscribers_of(sup):
    """How many have all calls of a supervisor watched, and how many do not."""
    subscribers = integration_of(sup)._binding.subscribers
    return len(subscribers), len(subscribers.unwatching)


def sign_of_life(service):
    """The timer of the next sign of life that systemd gets."""
    return service._timer


def notices_unsent(service):
    """What the service manager has not taken yet."""
    return service._waiting


def break_end_of_watched_calls(monkeypatch):
    """Has the short way by which a watched call ends fail, as where memory is short."""

    def outcome_of(*_):
        raise MemoryError("on purpose")

    def moved(publisher, run, old, new, ended=None):
        return outcome_of() if ended else plainly(publisher, run, old, new)

    plainly = Publisher.moved
    monkeypatch.setattr(calls, "outcome_of", outcome_of)
    monkeypatch.setattr(Publisher, "moved", moved)
