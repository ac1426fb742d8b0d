"""The same as `inside` for what shows a service to those outside: its control socket, and its page."""

from supervisor._api import control as api_control
from supervisor._api.integration import Integration
from supervisor._cli import main as cli
from supervisor._control import client, server
from supervisor._control.listener import Listener
from supervisor._control.server import Server
from supervisor._core.incident import Incident
from supervisor._core.survey import GroupRow, ShutdownProgress, Survey, WorkerRow
from supervisor._core.survey_text import text_of_survey
from supervisor._observe.notices import StateChanged
from supervisor.dashboard import looks as page_looks

__all__ = [  # single parts
    "GroupRow",
    "Incident",
    "Integration",
    "ShutdownProgress",
    "StateChanged",
    "Survey",
    "WorkerRow",
]

CLIENT = client.__name__
CLI = cli.__name__
"""Modules that a program imports by itself, to see what they import."""

MODULES_OF_A_SOCKET = (server.__package__, api_control.__name__)
"""How the names of those modules begin that a service has loaded only where it has a control socket."""

PATIENT_SERVER = f"import {server.__name__} as control; control.LINGER = control.LOOP_TURN = 60"
"""What a program executes whose control server is to wait for whoever is slow."""


def files_of_server():
    """The numbers of the files of the one server of this process: where it listens, and of each client."""
    (only,) = server._servers
    return [only._listener.socket.fileno(), *only._peers]


def survey_text(sup):
    """Returns what a dump says of the workers of a supervisor."""
    return text_of_survey(Integration(sup._binding).survey())


def hold_turns(monkeypatch, let_go):
    """Has servers do nothing before this Event is set, or 20 seconds are over."""
    turn = Server._turn
    monkeypatch.setattr(Server, "_turn", lambda self: (let_go.wait(20), turn(self)))


def before_removing(monkeypatch, do):
    """Calls a function each time that the file of a socket is about to be removed."""
    remove = Listener.remove
    monkeypatch.setattr(Listener, "remove", lambda self: (self._there and do(), remove(self)))


def tries_to_accept(monkeypatch):
    """A list that gets an entry each time that a server is about to accept a client."""
    tried, accept = [], Server._accept
    monkeypatch.setattr(Server, "_accept", lambda *args: (tried.append(1), accept(*args)))
    return tried


def break_accepting(monkeypatch):
    """Has a server fail as soon as somebody connects."""
    monkeypatch.setattr(Server, "_accept", lambda *_: 1 / 0)


def fail_to_start(monkeypatch, error):
    """No server gets a thread."""

    def fail(self):
        raise error

    monkeypatch.setattr(Server, "start", fail)


def time_looks_by(monkeypatch, clock):
    """Has the page take this for the time when it looks."""
    monkeypatch.setattr(page_looks, "monotonic", clock)
