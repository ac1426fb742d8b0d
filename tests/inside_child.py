"""The same as `inside` for a worker's process, into which a test loads no more than that has loaded already."""

import os
import sys

from supervisor._kinds.processes.child import serve
from supervisor._kinds.processes.wire import framed, message


def die_after_answering():
    """The result of this call is sent; then the process is gone at once."""
    write = serve.write

    def write_and_die(fd, parts):
        write(fd, parts)
        os._exit(7)

    serve.write = write_and_die


def die_within_answering(size):
    """Of the result of this call so much is sent; then the process is gone."""

    def write_half(fd, parts):
        os.write(fd, bytes(parts[0])[:size])
        os._exit(7)

    serve.write = write_half


def socket_of_this_process(which):
    """The number of the "data" or the "control" socket."""
    frame = sys._getframe()
    while frame.f_code is not serve.Child.serve.__code__:
        frame = frame.f_back
    return getattr(frame.f_locals["self"], f"_{which}")


def broken_frames():
    """What is no frame of ours, by name."""
    frame = message("entered", 1)[0]
    return {
        "garbage": b"\xff" * 64,
        "a word": b"x",
        "a claim of 1 GB": (1 << 30).to_bytes(8, "little") + bytes(4),
        "a frame of the old kind": (20).to_bytes(8, "little") + bytes(4) + frame,
        "half a frame": frame[:-3],
        "no pickle": framed(b"no pickle")[0],
        "an unknown message": message("hello")[0],
        "a message without its parts": message("entered")[0],
        "no message": framed(b"\x80\x05K\x05.")[0],
    }
