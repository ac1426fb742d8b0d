"""Frames: however a stream is cut, what was sent is what is taken out."""

import _thread
import ctypes
import os
import pickle
import socket
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ... import inside
from ...inside import CAPACITY, HEAD, Receiver, framed, message, write
from ...stepper import CheckPoints


class Reader:
    """Reads a text in pieces of given sizes, then all that is left; 0 at its end."""

    def __init__(self, data, sizes=()):
        self._data = memoryview(bytes(data))
        self._sizes = iter(sizes)

    def __call__(self, view):
        assert len(view) > 0, "asked for nothing, and would have to say that this is the end"
        size = min(next(self._sizes, len(self._data)), len(view), len(self._data))
        view[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


def taken(data, sizes=()):
    """All frames in a stream, as plain data: the same in both ways in which they are taken."""
    frames = [_plain(frame) for frame in _taken(Receiver(Reader(data, sizes)))]
    assert [_plain(frame) for frame in list(_taken_at_once(Receiver(Reader(data, sizes))))] == frames
    return frames


def _taken(receiver):
    frames = []
    while True:
        while (frame := receiver.take()) is not None:
            frames.append(frame)  # kept: what comes later must not change it
        if receiver.feed() == 0:
            return frames


def _taken_at_once(receiver):
    """Where nothing is held, what has come is nearly always one frame."""
    while True:
        frame = None if receiver.holds else receiver.read_one()
        while frame is None:
            frame = receiver.take()
            if frame is None and receiver.feed() == 0:
                return
        yield frame


def _plain(frame):
    return bytes(frame[0]), [bytes(buffer) for buffer in frame[1]]


def stream(*frames):
    return b"".join(bytes(part) for text, buffers in frames for part in framed(text, [memoryview(b) for b in buffers]))


FRAMES = [(b"first", []), (b"", []), (b"second", [b"abc", b"", b"x" * 300]), (b"third" * 30, [])]


def test_cut_in_two_at_every_byte():
    data = stream(*FRAMES)
    for cut in range(1, len(data)):
        assert taken(data, [cut]) == FRAMES


def test_byte_by_byte():
    data = stream(*FRAMES)
    assert taken(data, [1] * len(data)) == FRAMES


def test_many_frames_in_one_read():
    frames = [(b"%d" % n, []) for n in range(5000)]
    assert taken(stream(*frames)) == frames


@pytest.mark.parametrize("size", [CAPACITY - HEAD - 1, CAPACITY - HEAD, CAPACITY - HEAD + 1, CAPACITY, 3 * CAPACITY])
@pytest.mark.parametrize("before", [0, 1, 4])
def test_frames_about_as_large_as_the_buffer(size, before):
    small = [(b"s" * 100, [])] * before
    frames = [*small, (b"L" * size, []), *small, (b"M" * size, [b"B" * size]), *small]
    assert taken(stream(*frames)) == frames
    assert taken(stream(*frames), [7, CAPACITY, 13] * 100) == frames


def test_a_frame_that_stretches_over_the_end_of_the_buffer():
    frames = [(b"a" * (CAPACITY - 2 * HEAD - 5), []), (b"b" * 50, []), (b"c" * 60, [b"d" * 70])]
    for cut in range(CAPACITY - 40, CAPACITY):
        assert taken(stream(*frames), [cut]) == frames


def test_more_buffers_than_the_buffer_has_room_for():
    frames = [(b"p", [b"x"] * (CAPACITY // 4)), (b"q", [])]
    assert taken(stream(*frames)) == frames


def test_one_read_for_a_small_frame_that_comes_alone():
    frame = stream((b"text", []))
    receiver = Receiver(Reader(frame * 2 + frame, [len(frame)] * 2))
    assert [bytes(receiver.read_one()[0]) for _ in range(3)] == [b"text"] * 3
    assert not receiver.holds
    assert receiver.read_one() is None  # the end
    assert not receiver.holds


@pytest.mark.parametrize("sent", [stream((b"a", []), (b"b", [])), stream((b"a", [b"buffer"])), stream((b"a", []))[:-1]])
def test_what_is_more_or_less_than_that_is_held(sent):
    receiver = Receiver(Reader(sent))
    assert receiver.read_one() is None
    assert receiver.holds


def test_what_is_no_frame_is_found_out_though_it_comes_alone():
    frame = bytearray(stream((b"text", [])))
    frame[0] ^= 1
    receiver = Receiver(Reader(frame))
    assert receiver.read_one() is None
    with pytest.raises(inside.BrokenFrame):
        receiver.take()


def test_an_unfinished_frame_is_none():
    data = stream((b"text", [b"buffer"]))
    assert taken(data[:-1]) == []
    assert taken(b"") == []


def test_what_was_taken_may_be_written_to_and_is_not_overwritten():
    receiver = Receiver(Reader(stream((b"first", [bytearray(b"buffer")]), (b"other", [bytearray(b"reffub")]))))
    receiver.feed()
    first = receiver.take()
    first[1][0][0] = ord("B")
    second = receiver.take()
    assert (bytes(first[1][0]), bytes(second[1][0])) == (b"Buffer", b"reffub")
    assert receiver.take() is None


@pytest.mark.parametrize("size", [0, 1, CAPACITY, 3 * CAPACITY])
def test_bytes_arrive_as_such_and_what_may_be_written_to_does_not(size):
    sent = [b"x" * size, bytearray(b"y" * size), b"z" * size]
    receiver = Receiver(Reader(stream((b"text", sent))))
    while (frame := receiver.take()) is None:
        receiver.feed()
    first, second, third = frame[1]
    assert (type(first), type(second), type(third)) == (bytes, memoryview, bytes)
    assert [first, bytes(second), third] == sent
    assert not second.readonly


def test_bytes_that_are_too_large_for_the_room_that_is_made_at_once(monkeypatch):
    inside.make_room_at_once(monkeypatch, CAPACITY)
    large = bytes(range(256)) * (5 * CAPACITY // 256)
    receiver = Receiver(Reader(stream((b"text", [large]))))
    while (frame := receiver.take()) is None:
        receiver.feed()
    assert type(frame[1][0]) is bytes
    assert frame[1][0] == large


def test_what_was_taken_from_a_large_buffer_is_its_own():
    large = b"L" * (2 * CAPACITY)
    receiver = Receiver(Reader(stream((large, []), (b"next", []), (large, []))))
    frames = []
    while len(frames) < 3:
        if (frame := receiver.take()) is not None:
            frames.append(frame)
        else:
            assert receiver.feed() > 0
    assert [bytes(frame[0]) for frame in frames] == [large, b"next", large]


def test_there_is_always_room_for_the_next_read():
    receiver = Receiver(Reader(stream((b"x" * (5 * CAPACITY), [])), [1000] * 1000))
    while receiver.take() is None:
        assert receiver.room > 0
        receiver.feed()


@given(
    frames=st.lists(st.tuples(st.binary(max_size=300), st.lists(st.binary(max_size=100), max_size=4)), max_size=8),
    sizes=st.lists(st.integers(min_value=1, max_value=200), max_size=60),
    scale=st.sampled_from([1, 1, 1, 700]),
)
def test_however_it_is_cut(frames, sizes, scale):
    frames = [(text * scale, [buffer * scale for buffer in buffers]) for text, buffers in frames]
    assert taken(stream(*frames), [size * scale for size in sizes]) == frames


def test_objects_with_buffers_out_of_band_come_through():
    thing = [pickle.PickleBuffer(bytearray(b"x" * 100_000)), "text"]
    buffers = []
    text = pickle.dumps(thing, 5, buffer_callback=buffers.append)
    ((data, arrived),) = taken(b"".join(bytes(part) for part in framed(text, [buffer.raw() for buffer in buffers])))
    assert pickle.loads(data, buffers=arrived) == [b"x" * 100_000, "text"]


@pytest.mark.parametrize("size", [10, CAPACITY, 1_000_000])
def test_write_writes_it_all_into_a_pipe_that_holds_less(size):
    ours, theirs = os.pipe()
    text = b"w" * size
    writing = threading.Thread(target=write, args=(theirs, framed(text, [memoryview(text), memoryview(b"")])))
    writing.start()
    receiver = Receiver(lambda view: os.readv(ours, [view]))
    while (frame := receiver.take()) is None:
        assert receiver.feed() > 0
    writing.join(10)
    assert (bytes(frame[0]), [bytes(buffer) for buffer in frame[1]]) == (text, [text, b""])
    os.close(ours)
    os.close(theirs)


def test_write_goes_on_where_a_small_frame_went_only_in_part(monkeypatch):
    written = []

    def grudging(fd, part):
        written.append(bytes(part[:3]))
        return min(3, len(part))

    monkeypatch.setattr(os, "write", grudging)
    write(1, framed(b"a small frame"))
    assert taken(b"".join(written)) == [(b"a small frame", [])]


def test_a_message_is_a_frame_of_plain_data():
    ((data, buffers),) = taken(b"".join(bytes(part) for part in message("stop", 5, None, float("inf"))))
    assert (pickle.loads(data), buffers) == (("stop", 5, None, float("inf")), [])


def test_a_small_part_of_a_large_frame_keeps_no_more_than_itself_alive():
    """Each part is memory of its own."""
    for size in (300, 3 * CAPACITY):
        receiver = Receiver(Reader(stream((b"text", [bytearray(b"s" * 10), bytearray(b"L" * size)]))))
        while (frame := receiver.take()) is None:
            receiver.feed()
        small, large = frame[1]
        assert (len(small.obj), len(large.obj)) == (10, size)


def test_large_bytes_of_a_call_are_sent_from_where_they_are():
    data, small = b"x" * CAPACITY, b"y" * 100
    parts = inside.pickled_call(1, "name", 1, None, len, (data, small, [data]))
    assert [part.obj for part in parts if isinstance(part, memoryview)] == [data]
    assert parts[-1].obj is data


LARGE = [b"x" * (CAPACITY + 7), bytearray(b"y" * (3 * CAPACITY))]
STREAMS = {
    "each alone": ([(b"a", []), (b"b" * 99, [])], [HEAD + 1, HEAD + 99]),
    "together": ([(b"a", []), (b"b", []), (b"c", [])], [2 * HEAD + 2]),
    "in pieces": ([(b"a" * 50, [])] * 2, [7, HEAD, 40, 3]),
    "large": ([(b"a", LARGE), (b"b", [])], [HEAD, 100, CAPACITY, 30, 5 * CAPACITY]),
}


def heard_in_spite_of(points, receiver, heard):
    """Takes frames as the owner does, which goes on after an interrupt."""
    slot = [None]
    with points:
        while True:
            try:
                if slot[0] is None and not receiver.holds:
                    slot[0] = receiver.read_one()
                    if slot[0] is None and not receiver.holds:
                        return
                if slot[0] is None and receiver.holds:
                    slot[0] = receiver.take()
                if slot[0] is None and receiver.feed() == 0:
                    return
                if slot[0] is not None:
                    heard.append(_plain(slot[0]))
                    slot[0] = None
            except KeyboardInterrupt:
                pass


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="nothing strikes there")
@pytest.mark.parametrize("name", STREAMS)
def test_an_interrupt_wherever_the_interpreter_looks_for_one_loses_nothing(name):
    frames, sizes = STREAMS[name]
    at, struck = 0, 1
    while struck:
        at += 1
        heard, points = [], CheckPoints(inside.CODE_OF_RECEIVER, at)
        heard_in_spite_of(points, Receiver(Reader(stream(*frames), sizes)), heard)
        struck = points.struck
        assert heard == [_plain(frame) for frame in frames], points.places
    assert at > 5


@pytest.mark.parametrize("how", ["read_one", "feed"])
def test_an_interrupt_as_a_read_waits_to_go_on_loses_nothing(how):
    ours, theirs = socket.socketpair()
    data, send = stream((b"text", [])), ctypes.PyDLL(None).write
    receiver = Receiver(ours.recv_into)

    def send_and_interrupt():
        send(theirs.fileno(), data, len(data))  # keeps the interpreter
        _thread.interrupt_main()

    often = sys.getswitchinterval()
    with ours, theirs:
        thread = threading.Timer(0.1, send_and_interrupt)
        thread.start()
        sys.setswitchinterval(10)
        try:
            with pytest.raises(KeyboardInterrupt):
                getattr(receiver, how)()
                thread.join()  # at the latest here
        finally:
            sys.setswitchinterval(often)
            thread.join()
        assert receiver.holds
        assert bytes(receiver.take()[0]) == b"text"
