"""The same as `inside` for a worker's process, into which a test loads no more than that has loaded already."""

import os

from supervisor._kinds.processes.child import serve


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
