"""Services that are none of ours: they speak the protocol, and say what they like."""

import json
import socket
import threading

SURVEY = {
    "supervisor": "fake",
    "pid": 7,
    "version": "0",
    "python": "3.13",
    "at": 0.0,
    "state": "running",
    "health": {"ready": True, "live": True, "reasons": [], "failed": []},
    "pools": [],
    "groups": [],
    "workers": [],
    "matching": 0,
    "unended": 0,
    "loop_blocked_for": None,
    "shutdown": None,
    "report": None,
    "report_text": None,
}


def row(name, **more):
    return {"name": name, "kind": "thread", "role": "worker", "state": "running", "attempt": 1, **more}


def survey(*workers, **more):
    return {**SURVEY, "workers": list(workers), "matching": len(workers), "unended": len(workers), **more}


def answers(surveyed=None, stack="", *, write=False, events=(), incidents=()):
    """Returns what a service answers to each command; an Exception is refused with its text."""
    surveyed = survey() if surveyed is None else surveyed
    return {
        "hello": {"supervisor": surveyed["supervisor"], "pid": surveyed["pid"], "protocol": 1, "write": write},
        "survey": surveyed,
        "stack": {"name": "any", "stack": stack, "cut": False},
        "stacks": {"stacks": [{"name": "any", "stack": stack, "cut": False}], "left_out": 0},
        "incidents": list(incidents),
        "watch": list(events),
    }


class FakeService:
    """Listens at a path.

    Args:
        path: Where.
        says: What it answers to each command; None: nothing ever; bytes: these to whatever is said.
    """

    def __init__(self, path, says):
        self.says = says
        self.asked = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._clients = []
        self._threads = []
        self._run(self._accept)

    def _run(self, *work):
        self._threads.append(threading.Thread(target=work[0], args=work[1:], daemon=True))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            self._run(self._serve, client)

    def _serve(self, client):
        try:
            for line in client.makefile("rb"):
                if self.says is None:
                    continue
                if isinstance(self.says, bytes):
                    client.sendall(self.says)
                    continue
                self._answer(client, json.loads(line))
        except OSError:
            pass

    def _answer(self, client, request):
        self.asked.append(request)
        said = self.says.get(request["do"], KeyError("unknown"))
        head = {"v": 1, "id": request["id"]}

        def send(**more):
            client.sendall(json.dumps({**head, **more}).encode() + b"\n")

        if isinstance(said, Exception):
            send(ok=False, error={"code": "failed", "message": str(said)})
        elif request["do"] == "watch":
            send(ok=True, data={"watching": True})
            for line in said:
                send(**line)
        else:
            send(ok=True, data=said)

    def close(self):
        """Ends, with its threads: a socket that is shut down wakes whoever waits in it."""
        self._shut(self._socket)
        self._threads[0].join()
        for client in self._clients:
            self._shut(client)
        for thread in self._threads:
            thread.join()

    def _shut(self, shut):
        try:
            shut.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        shut.close()
