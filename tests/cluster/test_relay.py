"""What is logged on a node, as its owner gets it."""

import threading

import pytest

from supervisor import RemoteError

from .conftest import import_dask


@pytest.fixture
def posted():
    return []


@pytest.fixture
async def end(posted):
    import_dask()
    from ..inside_nodes import RelayEnd

    return RelayEnd(lambda fn, *args: posted.append((fn, args)))


async def test_events_beyond_a_thousand_are_counted_and_that_is_said_though_nothing_follows(end):
    for number in range(end.MOST + 500):
        end.relay.info("noise", worker="w", kind="process", number=number)
    end.say_what_was_dropped()  # there is no room yet
    heard = end.heard()
    assert [event["number"] for event in heard] == list(range(end.MOST))
    end.say_what_was_dropped()
    assert end.heard() == [
        {"event": "worker.logs_dropped", "level": "warning", "worker": "w", "kind": "process", "dropped": 500}
    ]
    end.say_what_was_dropped()
    assert end.heard() == []


async def test_what_was_lost_in_a_process_is_counted_where_its_own_count_is_lost(end):
    for _ in range(end.MOST):
        end.relay.info("noise")
    end.relay.warning("worker.logs_dropped", worker="w", kind="process", dropped=7)
    end.heard()
    end.say_what_was_dropped()
    assert end.lost_with_all() == 7
    assert [event["dropped"] for event in end.heard()] == [7]


async def test_their_bytes_are_bounded_and_a_long_one_is_cut(end):
    end.relay.info("long", text="x" * (end.LARGEST + 1), number=3)
    (event,) = end.heard()
    assert (len(event["text"]), event["event"]) == (1000, "long")
    for _ in range(2 * end.MOST_BYTES // end.LARGEST):
        end.relay.info("long", text="x" * (end.LARGEST - 1000))
    assert len(end.heard()) <= end.MOST_BYTES // (end.LARGEST - 1000) + 1
    end.say_what_was_dropped()
    assert end.heard()[0]["dropped"] > 0


class Odd:
    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        if self.how == "loads":
            return int, ("no number",)
        raise ValueError(self.how)

    def __repr__(self):
        if self.how == "repr":
            raise ValueError("no text either")
        return f"<odd {self.how}>"


async def test_a_value_that_does_not_arrive_does_so_as_text(end):
    end.relay.info("odd", dumps=Odd("dumps"), loads=Odd("loads"), repr=Odd("repr"), list=[1, {"a": {2}}], number=2**70)
    (event,) = end.heard()
    assert event["dumps"] == "<odd dumps>"
    assert event["loads"] == "<odd loads>"
    assert event["repr"].startswith("<Odd, whose repr raised")
    assert (event["list"], event["number"]) == ([1, {"a": {2}}], 2**70)


async def test_an_error_arrives_with_its_traceback(end):
    try:
        raise LookupError("not here")
    except LookupError as error:
        end.relay.error("worker.callback_failed", exc_info=error)
    (event,) = end.heard()
    assert (type(event["exc_info"]), str(event["exc_info"])) == (LookupError, "not here")
    assert isinstance(event["exc_info"].__cause__, RemoteError)
    assert "test_an_error_arrives" in str(event["exc_info"].__cause__)


async def test_steps_are_said_at_once_and_other_threads_have_the_loop_say_it(end, posted):
    end.relay.warning("worker.escalated", worker="w", step="inject")
    end.relay.info("worker.stopping", worker="w", step="ask")  # its owner has said that
    end.relay.info("worker.ended", worker="w")
    assert [event["step"] for event in end.steps] == ["inject"]
    thread = threading.Thread(target=lambda: end.relay.warning("from elsewhere"))
    thread.start()
    thread.join()
    assert end.heard() == []
    for fn, args in posted:
        fn(*args)
    assert [event["event"] for event in end.heard()] == ["from elsewhere"]


async def test_what_a_thread_has_written_comes_before_what_the_loops_thread_says_next(end, posted):
    """The end of its run, say: nothing of it is left on its way when that is said."""
    thread = threading.Thread(target=lambda: end.relay.warning("first"))
    thread.start()
    thread.join()
    end.relay.catch_up()
    end.relay.warning("second")
    for fn, args in posted:
        fn(*args)
    assert [event["event"] for event in end.heard()] == ["first", "second"]
