"""What the tests of the control socket share."""

import socket
import tempfile

import pytest


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch):
    """The user's runtime directory: one for each test, by a short path."""
    with tempfile.TemporaryDirectory(prefix="sl-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield folder


@pytest.fixture
def raw():
    """Connects to a socket, without the client."""
    opened = []

    def connect(path, seconds=20):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.append(made)
        made.settimeout(seconds)
        made.connect(str(path))
        return made

    yield connect
    for made in opened:
        made.close()
