"""What workers log in their processes."""

import threading

import structlog

from supervisor import current_context


class Unsendable:
    """A value that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("not sendable")

    def __repr__(self):
        return "<unsendable>"


def says(event, method="info", **fields):
    getattr(structlog.get_logger(), method)(event, **fields)


def says_unsendable():
    structlog.get_logger().info("odd", value=Unsendable(), plain=5)


def says_error():
    try:
        raise ValueError("of the worker")
    except ValueError:
        structlog.get_logger().exception("failed")


def says_bound():
    structlog.contextvars.bind_contextvars(request="r1")
    try:
        structlog.get_logger().bind(part=2).info("bound")
    finally:
        structlog.contextvars.clear_contextvars()


def says_what_changes():
    log, seen = structlog.get_logger(), []
    for n in range(5):
        seen.append(n)
        log.info("step", seen=seen)


def says_what_cannot_be_sent_any_more():
    log, state = structlog.get_logger(), {}
    for _ in range(200):
        state.pop("lock", None)
        log.info("state", state=state)
        state["lock"] = threading.Lock()
    log.info("last")


def says_many(number, board=None):
    log = structlog.get_logger()
    for n in range(number):
        log.info("line", n=n)
    if board is not None:
        board.post("said")


def worker_says_many(ctx, number):
    says_many(number)


def says_in_threads(number):
    threads = [threading.Thread(target=says_many, args=(number,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def says_when_stopped(ctx):
    ctx.stop.wait()
    structlog.get_logger().info("going")


def configured_itself():
    seen = []

    def keep(_, __, event):
        seen.append(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        structlog.get_logger().info("my own", name=current_context().name)
    finally:
        structlog.reset_defaults()
    return seen
