"""The other end of the control socket, for the command line and whoever else asks a service."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, cast

from .places import owner_of_peer, sockets
from .protocol import LONGEST_ANSWER, VERSION, ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["Connection", "ControlError", "sockets"]

CHUNK = 256 * 1024


class Connection:
    """A connection to the control socket of one supervisor. Use it as `with Connection(path) as service:`.

    Args:
        path: Of the socket.
        timeout: Seconds for which an answer is waited for.

    Raises:
        ControlError: Nobody answers there ("unreachable"), or it belongs to another user ("refused").
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        self.path = os.fspath(path)
        self._timeout = timeout
        self._received = bytearray()
        self._searched = 0
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise

    def _connect(self) -> None:
        self._socket.settimeout(self._timeout)
        try:
            self._socket.connect(self.path)
            owner = owner_of_peer(self._socket)
        except OSError as error:
            why = "nobody listens there any more" if isinstance(error, ConnectionRefusedError) else error
            raise ControlError("unreachable", f"{self.path}: {why}") from None
        me = os.geteuid()
        if me not in (owner, 0) and owner != 0:
            raise ControlError("refused", f"{self.path}: is of user {owner}, and this is user {me}")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Sends a command and returns the data of its answer: a dict, or a list of dicts.

        Raises:
            ControlError: It was not carried out; or there was no answer in time ("no_answer").
        """
        number = self._send(do, arguments)
        while True:
            found = self._next()
            if found.get("id") in (number, None):
                break
        if found.get("ok") is True:
            return found.get("data")
        raise _error_of(found)

    def watch(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Sends `watch`; returns an iterator over what comes from now on, until the supervisor has ended.

        Each is a dict with one key: "event"; "dropped", a number; or "report", the last one, where there is a report.
        Nothing else can be asked on this connection meanwhile.

        Raises:
            ControlError: It is not carried out; or the service is gone ("no_answer").
        """
        self.ask("watch", **arguments)
        self._socket.settimeout(None)
        return self._lines()

    def _lines(self) -> Iterator[dict[str, Any]]:
        while True:
            found = self._next()
            yield {key: value for key, value in found.items() if key not in {"v", "id"}}
            if "report" in found:
                return

    def _send(self, do: str, arguments: dict[str, Any]) -> int:
        self._number += 1
        text = json.dumps({"v": VERSION, "id": self._number, "do": do, **arguments}) + "\n"
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(text.encode(), socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has closed the connection: perhaps it has said why
        return self._number

    def _next(self) -> dict[str, Any]:
        """Returns the next line that has come."""
        while (end := self._received.find(b"\n", self._searched)) < 0:
            self._searched = len(self._received)
            if self._searched > 2 * LONGEST_ANSWER:
                raise ControlError("too_large", f"{self.path}: the answer is longer than the protocol has it")
            try:
                chunk = self._socket.recv(CHUNK)
            except TimeoutError:
                message = f"{self.path}: no answer within {self._timeout:g} s: C code may hold its interpreter"
                raise ControlError("no_answer", message) from None
            except OSError as error:
                raise ControlError("no_answer", f"{self.path}: {error}") from None
            if not chunk:
                raise ControlError("no_answer", f"{self.path}: the connection was closed; the service may have ended")
            self._received += chunk
        text = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ControlError("no_answer", f"{self.path}: the answer cannot be understood: {error}") from None
        if not isinstance(found, dict):
            raise ControlError("no_answer", f"{self.path}: the answer is no object")
        return cast("dict[str, Any]", found)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error_of(found: dict[str, Any]) -> ControlError:
    error = found.get("error")
    fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    more = {key: value for key, value in fields.items() if key not in {"code", "message"}}
    return ControlError(str(fields.get("code", "failed")), str(fields.get("message", "it failed")), more=more)
