"""The control server: one thread, which answers clients also while the event loop is blocked."""

from __future__ import annotations

import atexit
import os
import selectors
import threading
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from .deeds import Deed
from .peer import Peer
from .places import peer_of
from .protocol import WRITING, ControlError, answer, failure, parse
from .watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .listener import Listener
    from .ports import Port
    from .protocol import Request

__all__ = ["Server"]

MOST_CLIENTS = 16

AT_ONCE = 32
"""Connections that are accepted, or requests of a client that are answered, in one turn."""

LOOK = 1.0
"""Seconds after which the server looks whether its supervisor is still there."""

IDLE = 60.0
"""Seconds for which a client may say nothing, or read nothing, that has no reason to wait."""

LOOP_TURN = 1.0
"""Seconds for which a client waits for the loop to take what it is to do."""

COALESCE = 0.02
"""Seconds between two looks at what happens, while much does: the loop need not wake the server each time."""

LINGER = 0.5
"""Seconds at most for which clients may read, at the end, what waits for them."""

NO_FILES = 1.0
"""Seconds for which nobody is accepted, where the process has no more files."""

LONGEST_STACK = 256 * 1024
"""Characters of a stack; of a longer one, the last, which say where it stands."""

MOST_OF_STACKS = 2 * 1024 * 1024
"""Characters of all stacks in one answer."""

AT_A_TIME = 16
"""Workers that are asked together where they stand, as nodes of a cluster answer together."""

STACKS_FOR = 2.0
"""Seconds for which stacks are gathered for one answer."""


class Server:
    """Answers the clients of one supervisor.

    Args:
        listener: Where they come in.
        port: The supervisor.
        clock: The monotonic clock itself.
        name: The supervisor's.
    """

    def __init__(self, listener: Listener, port: Port, clock: Callable[[], float], name: str) -> None:
        self._listener = listener
        self._port = port
        self._clock = clock
        self._pid = os.getpid()
        self._bell = _Bell()
        self._selector = selectors.PollSelector()  # has no file of its own, which a fork would share
        self._peers: dict[int, Peer] = {}
        self._undone: list[Deed] = []
        self._ended = False  # its supervisor has
        self._gone = ""  # why it has, where it did not shut down
        self._looks = False  # the server looks soon at what happens, without being woken
        self._accepts_after = 0.0
        self._leaves_by = 0.0
        self.thread = threading.Thread(target=self._run, name=f"{name}-control", daemon=True)

    # ------------------------------------------------------------------------------------ any thread

    def start(self) -> None:
        """Begins to serve.

        Raises:
            RuntimeError: No thread can be started.
        """
        _servers.add(self)
        Context().run(self.thread.start)  # Python 3.14 can have it inherit the context of who starts it

    def end(self) -> None:
        """The supervisor has ended: nobody can connect any more, and who is connected gets what waits. Any thread."""
        try:
            self._listener.remove()
        finally:
            self._ended = True  # only now: who has the report finds no socket
            self._bell.ring()

    def look(self) -> None:
        """Has it look whether its supervisor is still there. Any thread, and finalizers: takes no lock."""
        self._bell.ring()

    def _wake_soon(self) -> None:
        """Something happens that is watched. On the loop's thread, often."""
        if not self._looks:
            self._bell.ring()

    # ------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            self._selector.register(self._bell.fd, selectors.EVENT_READ)
            self._selector.register(self._listener.socket, selectors.EVENT_READ)
            while not self._is_over():
                self._turn()
        except BaseException as error:
            self._port.failed(error)
        finally:
            self._close()

    def _is_over(self) -> bool:
        if not self._ended:
            return False
        return not self._peers or self._clock() >= self._leaves_by > 0.0

    def _turn(self) -> None:
        ready = {key.fd: mask for key, mask in self._selector.select(self._patience())}
        now = self._clock()
        if ready.pop(self._bell.fd, 0):
            self._bell.hush()  # first this: who rings from here on is heard in the next turn
        if not self._ended:
            self._gone = self._port.gone
            if self._gone:
                self.end()
        if ready.pop(self._listener.socket.fileno(), 0) or self._is_accepting_again(now):
            self._accept(now)
        for fd, mask in ready.items():
            peer = self._peers.get(fd)
            if peer is not None and mask & selectors.EVENT_READ:
                self._attempt(peer, Peer.receive)
        for peer in tuple(self._peers.values()):
            self._serve(peer, now)
        self._conclude_deeds(now)
        self._look_at_what_happens()
        if self._ended:
            self._say_goodbye(now)
        for peer in tuple(self._peers.values()):
            self._attempt(peer, self._attend, now)

    def _patience(self) -> float:
        if any(peer.has_line and peer.has_room for peer in self._peers.values()):
            return 0.0
        if self._looks or self._ended:
            return COALESCE
        now = self._clock()
        waiting = (deed.since + LOOP_TURN - now for peer in self._peers.values() for deed in peer.deeds)
        return max(0.0, min(waiting, default=LOOK))

    def _attempt(self, peer: Peer, do: Callable[..., object], *args: float) -> None:
        """Does something for a client, which may be gone."""
        try:
            do(peer, *args)
        except OSError:
            self._drop(peer)

    # ------------------------------------------------------------------------------------ clients come and go

    def _accept(self, now: float) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # there are no more files: who knocks goes on knocking
                self._selector.unregister(self._listener.socket)
                self._accepts_after = now + NO_FILES
                return
            connection.setblocking(False)
            self._admit(connection, now)

    def _is_accepting_again(self, now: float) -> bool:
        if not self._accepts_after or now < self._accepts_after or self._ended:
            return False
        self._accepts_after = 0.0
        self._selector.register(self._listener.socket, selectors.EVENT_READ)
        return True

    def _admit(self, connection: Any, now: float) -> None:
        peer = Peer(connection, 0, now)
        try:
            peer.pid, user = peer_of(connection)
            if user not in (os.geteuid(), 0):
                peer.dismiss(ControlError("refused", "this socket is for the user that runs the service, and for root"))
            elif not self._has_room():
                peer.dismiss(ControlError("busy", f"{MOST_CLIENTS} clients are connected already: try again later"))
            peer.flush(now)
        except OSError:
            peer.leaves = True
        if peer.leaves:
            connection.close()
            return
        self._peers[connection.fileno()] = peer
        self._selector.register(connection, selectors.EVENT_READ)

    def _has_room(self) -> bool:
        """Whether one more may come; who has gone, and was not heard of yet, counts no more."""
        if len(self._peers) >= MOST_CLIENTS:
            for peer in tuple(self._peers.values()):
                if peer.is_gone():
                    self._drop(peer)
        return len(self._peers) < MOST_CLIENTS

    def _drop(self, peer: Peer) -> None:
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is not None and fd in self._selector.get_map():
            self._selector.unregister(fd)
        peer.close()

    def _attend(self, peer: Peer, now: float) -> None:
        """Gives a client what waits for it, and lets it go where that is due."""
        peer.flush(now)
        waits_for_us = peer.deeds or (peer.watch is not None and not peer.waits)
        has_all = not (peer.waits or peer.deeds or peer.has_line)
        if (peer.leaves and has_all) or (not waits_for_us and now - peer.heard_at > IDLE):
            self._drop(peer)
            return
        wants = (selectors.EVENT_READ if peer.reads else 0) | (selectors.EVENT_WRITE if peer.waits else 0)
        fd = peer.socket.fileno()
        known = self._selector.get_map().get(fd)
        if known is None and wants:
            self._selector.register(fd, wants)
        elif known is not None and not wants:
            self._selector.unregister(fd)
        elif known is not None and known.events != wants:
            self._selector.modify(fd, wants)

    # ------------------------------------------------------------------------------------ requests

    def _serve(self, peer: Peer, now: float) -> None:
        """Answers what a client has asked."""
        for _ in range(AT_ONCE):
            text = peer.next_line(now)
            if text is None:
                return
            self._answer(peer, text, now)

    def _answer(self, peer: Peer, text: bytes, now: float) -> None:
        number = None
        try:
            request = parse(text)
            number = request.id
            if request.do in WRITING:
                self._begin(peer, request, now)
            elif request.do == "watch":
                self._watch(peer, request)
            else:
                peer.send(answer(number, self._read(request)))
        except ControlError as error:
            error.id = number if error.id is None else error.id
            peer.send(failure(error))
        except Exception as error:
            message = f"{type(error).__name__}: this could not be found out; try again"
            peer.send(failure(ControlError("failed", message, of=number)))

    def _read(self, request: Request) -> Any:
        port, arguments = self._port, request.arguments
        match request.do:
            case "hello":
                return port.hello()
            case "survey":
                return port.survey(**arguments)
            case "stack":
                return self._stack(arguments["name"])
            case "stacks":
                return self._stacks(**arguments)
            case "incidents":
                return port.incidents()
            case _:
                raise ControlError("unknown_command", f"{request.do} is no command")

    def _stack(self, name: str) -> dict[str, Any]:
        stack = self._port.stacks([name]).get(name)
        if stack is None:
            raise ControlError("no_such_worker", f"{name!r}: no worker or call that has not ended has this name")
        return _cut(name, stack)

    def _stacks(self, matching: str, limit: int) -> dict[str, Any]:
        until, size = self._clock() + STACKS_FOR, 0
        stacks: list[dict[str, Any]] = []
        names = deque(self._port.running(matching))
        while names and len(stacks) < limit and size < MOST_OF_STACKS and self._clock() < until:
            some = [names.popleft() for _ in range(min(AT_A_TIME, limit - len(stacks), len(names)))]
            for name, stack in self._port.stacks(some).items():
                if stack:
                    stacks.append(_cut(name, stack))
                    size += len(stacks[-1]["stack"])
        return {"stacks": stacks, "left_out": len(names)}

    def _watch(self, peer: Peer, request: Request) -> None:
        if peer.watch is not None:
            raise ControlError("busy", "this connection watches already; open another one")
        peer.watch = Watch(request.id, self._port, self._wake_soon)
        peer.watch.begin(**request.arguments)
        peer.send(answer(request.id, {"watching": True}))

    # ------------------------------------------------------------------------------------ what the loop does

    def _begin(self, peer: Peer, request: Request, now: float) -> None:
        if not self._port.write:
            message = f'{request.do} changes something, and this socket is for looking: it takes control="write"'
            raise ControlError("refused", message)
        if len(self._undone) >= AT_ONCE:
            raise ControlError("busy", f"{AT_ONCE} commands wait for the event loop already; they are done first")
        deed = Deed(request, peer.pid, now, self._bell.ring)
        self._port.begin(deed)
        peer.deeds.append(deed)
        self._undone.append(deed)

    def _conclude_deeds(self, now: float) -> None:
        """Answers who waits for the loop: it has done it, or does not come to a turn."""
        for peer in self._peers.values():
            for deed in tuple(peer.deeds):
                if deed.done:
                    peer.send(deed.answer())
                elif self._gone:
                    peer.send(failure(ControlError("failed", f"it will not be done: {self._gone}", of=deed.request.id)))
                elif now - deed.since >= LOOP_TURN:
                    peer.send(deed.blocked(self._blocked_for(now)))
                else:
                    continue
                peer.deeds.remove(deed)
        self._undone = [deed for deed in self._undone if not deed.done]

    def _blocked_for(self, now: float) -> float:
        waited = max((now - deed.since for deed in self._undone), default=0.0)
        return max(waited, self._port.blocked_for() or 0.0)

    # ------------------------------------------------------------------------------------ what happens

    def _look_at_what_happens(self) -> None:
        self._looks = self._take_events()
        if not self._looks:
            self._looks = self._take_events()  # again: from now on the loop rings, and what came before did not

    def _take_events(self) -> bool:
        """Returns whether something has happened that is watched."""
        anything = False
        for peer in self._peers.values():
            if peer.watch is not None and peer.has_room:
                for text in peer.watch.lines():
                    peer.send(text)
                    anything = True
        return anything

    # ------------------------------------------------------------------------------------ the end

    def _say_goodbye(self, now: float) -> None:
        """Nobody is accepted any more; who is connected gets what waits, and who watches the report."""
        if self._leaves_by:
            return
        self._leaves_by = now + LINGER
        if self._listener.socket.fileno() in self._selector.get_map():
            self._selector.unregister(self._listener.socket)
        self._listener.socket.close()
        for peer in self._peers.values():
            if peer.watch is not None:
                for text in peer.watch.lines():
                    peer.send(text)
                peer.send(peer.watch.last_line())
            peer.leaves = True

    def _close(self) -> None:
        for peer in tuple(self._peers.values()):
            self._drop(peer)
        self._listener.close()
        self._selector.close()
        _servers.discard(self)
        self._port.closed()

    def forked(self) -> None:
        """This process is a copy, without the thread: its files are closed, and the socket stays where it is."""
        for peer in tuple(self._peers.values()):
            peer.socket.close()
        self._listener.socket.close()

    def exiting(self) -> None:
        """The interpreter exits: the socket is gone before that, and who is connected has had a moment."""
        if self._pid == os.getpid() and self.thread.is_alive():
            self.end()
            self.thread.join(LINGER)


def _cut(name: str, stack: str) -> dict[str, Any]:
    cut = len(stack) > LONGEST_STACK
    return {"name": name, "stack": stack[-LONGEST_STACK:] if cut else stack, "cut": cut}


class _Bell:
    """An eventfd that is closed with the last reference to it: who rings late rings at no other's file."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        try:
            os.eventfd_write(self.fd, 1)
        except BlockingIOError:
            pass  # it has rung very often

    def hush(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.fd >= 0:
            close(self.fd)


_servers: WeakSet[Server] = WeakSet()


def _after_fork() -> None:
    for server in list(_servers):
        server.forked()
    _servers.clear()


def _at_exit() -> None:
    for server in list(_servers):
        server.exiting()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
