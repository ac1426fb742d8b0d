"""Calls in which a worker waits for threads, sockets and servers: rows of the table that `blocked.py` makes."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import queue
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from blocked_calls import KEPT, LONG, in_thread, row

# ------------------------------------------------------------------------------------- waits of `threading` and `queue`


@row("`Lock.acquire()`", "`lock.release`")
def lock():
    taken = threading.Lock()
    taken.acquire()
    return taken.acquire, taken.release


@row("`RLock.acquire()`")
def rlock():
    taken = threading.RLock()
    in_thread(taken.acquire).join()
    return taken.acquire, None


@row("`Condition.wait()`", "`notify_all`")
def condition():
    waited = threading.Condition()

    def wait():
        with waited:
            waited.wait()

    def free():
        with waited:
            waited.notify_all()

    return wait, free


@row("`Event.wait()`", "`event.set`")
def event():
    waited = threading.Event()
    return waited.wait, waited.set


@row("`Semaphore.acquire()`", "`semaphore.release`")
def semaphore():
    none_left = threading.Semaphore(0)
    return none_left.acquire, none_left.release


@row("`Barrier.wait()`", "`barrier.abort`")
def barrier():
    for_two = threading.Barrier(2)
    return for_two.wait, for_two.abort


@row("`Thread.join()`")
def join():
    return in_thread(time.sleep, LONG).join, None


@row("`Queue.get()`", "a sentinel")
def queue_get():
    jobs = queue.Queue()
    return jobs.get, lambda: jobs.put(None)


@row("`Queue.put()` into a full one", "`queue.get`")
def queue_put():
    jobs = queue.Queue(1)
    jobs.put(1)
    return lambda: jobs.put(2), jobs.get


@row("`Queue.join()`", "`queue.task_done`")
def queue_join():
    jobs = queue.Queue()
    jobs.put(1)
    return jobs.join, jobs.task_done


@row("`SimpleQueue.get()`", "a sentinel")
def simple_queue():
    jobs = queue.SimpleQueue()
    return jobs.get, lambda: jobs.put(None)


@row("`Future.result()`", "`future.cancel`")
def future():
    pending = concurrent.futures.Future()
    return pending.result, pending.cancel


@row("`concurrent.futures.wait()`", "`future.cancel`, and its notice")
def futures_wait():
    pending = concurrent.futures.Future()

    def free():
        pending.cancel()
        pending.set_running_or_notify_cancel()

    return lambda: concurrent.futures.wait([pending]), free


@row("`ThreadPoolExecutor`: leaving its `with`")
def leaving_a_pool():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(time.sleep, LONG)
    return pool.shutdown, None


# ------------------------------------------------------------------------------------- sockets


def shutting_down(sock):
    return lambda: sock.shutdown(socket.SHUT_RDWR)


SHUTDOWN = "`sock.shutdown`"


def pair():
    """Two connected sockets. The second is kept alive by the first."""
    ours, theirs = socket.socketpair()
    KEPT.append(theirs)
    return ours


@row("`socket.recv()`", SHUTDOWN)
def recv():
    sock = pair()
    return lambda: sock.recv(1), shutting_down(sock)


@row("`socket.recv()` with a timeout", SHUTDOWN)
def recv_with_timeout():
    sock = pair()
    sock.settimeout(LONG)
    return lambda: sock.recv(1), shutting_down(sock)


@row("`socket.sendall()`, to a peer that does not read", SHUTDOWN)
def sendall():
    sock = pair()
    return lambda: sock.sendall(bytes(10**8)), shutting_down(sock)


@row("`socket.accept()`", SHUTDOWN)
def accept():
    sock = socket.create_server(("127.0.0.1", 0))
    return sock.accept, shutting_down(sock)


@row("`socket.connect()`, to a peer that does not answer", SHUTDOWN)
def connect():
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    for _ in range(8):  # more than it takes in: the next one gets no answer
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        KEPT.append(filler)
    KEPT.append(server)
    sock = socket.socket()
    return lambda: sock.connect(server.getsockname()), shutting_down(sock)


@row("`socket.getaddrinfo()`, with a name server that does not answer", needs="name server")
def getaddrinfo():
    return lambda: socket.getaddrinfo("name.example", 80), None


@row("TLS: the handshake", SHUTDOWN)
def handshake():
    sock = pair()
    tls = ssl.create_default_context().wrap_socket(sock, server_hostname="peer", do_handshake_on_connect=False)
    return tls.do_handshake, shutting_down(tls)


@row("TLS: `recv()`", SHUTDOWN)
def tls_recv():
    ours, theirs = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    in_thread(lambda: KEPT.append(server.wrap_socket(theirs, server_side=True)))
    tls = client.wrap_socket(ours)
    return lambda: tls.recv(1), shutting_down(tls)


def certificate():
    path = Path(tempfile.mkdtemp()) / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=peer", "-days", "1"]
    subprocess.run([*make, "-keyout", path, "-out", f"{path}.part"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.part").read_bytes())
    return path


# ------------------------------------------------------------------------------------- HTTP, databases


def silent_server():
    """The port of a server that takes connections in, and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    KEPT.append(server)
    return server.getsockname()[1]


@row("`http.client`: a response that does not come", f"{SHUTDOWN} of its `sock`")
def http_client():
    connection = http.client.HTTPConnection("127.0.0.1", silent_server())
    connection.connect()
    connection.request("GET", "/")
    return connection.getresponse, shutting_down(connection.sock)


@row("`urllib.request.urlopen()`: a response that does not come")
def urlopen():
    port = silent_server()
    return lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}"), None


@row("`urllib3`: a response that does not come")
def urllib3():
    import urllib3

    port = silent_server()
    return lambda: urllib3.PoolManager().request("GET", f"http://127.0.0.1:{port}"), None


@row("`requests`: a response that does not come")
def requests():
    import requests

    port = silent_server()
    return lambda: requests.get(f"http://127.0.0.1:{port}", timeout=LONG), None


@row("`sqlite3`: waiting for a lock of the database")  # which `conn.interrupt` does not end
def sqlite_busy():
    path = Path(tempfile.mkdtemp()) / "database"
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    KEPT.append(other)
    conn = sqlite3.connect(path, timeout=LONG)
    return lambda: conn.execute("BEGIN IMMEDIATE"), None


@row("`sqlite3`: a long query", "`conn.interrupt`")
def sqlite_query():
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    conn = sqlite3.connect(":memory:", check_same_thread=False)
    return lambda: conn.execute(endless).fetchone(), conn.interrupt


@row("`psycopg`: a long query, on PostgreSQL", "`conn.cancel`", needs="PostgreSQL")
def psycopg():
    import psycopg

    conn = psycopg.connect(os.environ["BLOCKED_POSTGRESQL"])
    return lambda: conn.execute(f"SELECT pg_sleep({LONG})"), conn.cancel
