"""Where the socket is, who may use it, and what is there already."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import threading

import pytest

from supervisor import Supervisor

from ..inside import Connection, ControlError, sockets
from .asking import ask, beside, only_socket

pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="needs Linux")

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


async def failure_of(control, events):
    """Uses a supervisor whose socket cannot be made; returns why."""
    async with Supervisor("app", control=control) as sup:
        assert await sup.run(sum, [1, 2]) == 3  # the service is none the worse for it
    (event,) = [event for event in events if event["event"] == "supervisor.control_failed"]
    assert event["level"] == "error"
    return event["reason"]


# ------------------------------------------------------------------------------------------------ who may


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
async def test_the_socket_and_its_folder_are_for_one_user_whatever_the_umask(umask, runtime_folder):
    before = os.umask(umask)
    try:
        async with Supervisor("app", control=True):
            path = f"{runtime_folder}/stopladder/{os.getpid()}.app.sock"
            assert mode(path) == 0o600
            if umask != 0o777:  # no folder can be made with that by anybody but root
                assert mode(os.path.dirname(path)) == 0o700
    finally:
        os.umask(before)


def asked_as(user, path):
    """Connects as another user, in a process of its own; returns what it gets."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                with contextlib.suppress(OSError):
                    connection.sendall(b'{"v":1,"id":1,"do":"hello"}\n')
                found = connection.recv(1 << 16)
        except BaseException as error:
            found = type(error).__name__.encode()
        os.write(writing, found)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        found = file.read().decode()
    os.waitpid(pid, 0)
    return found


@pytest.mark.skipif(not IS_ROOT, reason="only root can be another user")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_another_user_is_refused_by_the_kernel_and_by_the_server(runtime_folder):
    async with Supervisor("app", control="write"):
        path = only_socket()
        os.chmod(runtime_folder, 0o755)
        os.chmod(path.parent, 0o755)
        assert await beside(asked_as, NOBODY, path) == "PermissionError"
        os.chmod(path, 0o666)
        answer = json.loads(await beside(asked_as, NOBODY, path))
        assert (answer["ok"], answer["error"]["code"]) == (False, "refused")
        assert json.loads(await beside(asked_as, 0, path))["ok"]


@pytest.mark.skipif(not IS_ROOT, reason="only root can be another user")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_client_does_not_talk_to_another_users_service(runtime_folder):
    os.chmod(runtime_folder, 0o755)
    path = f"{runtime_folder}/theirs.sock"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        os.chmod(path, 0o666)
        os.setuid(1)
        made.listen()  # from here on it is user 1's
        os.write(writing, b".")
        threading.Event().wait(30)
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"."
        os.seteuid(NOBODY)
        try:
            with pytest.raises(ControlError) as error:
                Connection(path)
            assert error.value.code == "refused"
        finally:
            os.seteuid(0)
        Connection(path).close()  # root may
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


# ------------------------------------------------------------------------------------------------ which folders


async def test_without_a_runtime_directory_it_is_in_a_private_folder_for_temporary_files(
    monkeypatch, runtime_folder, tmp_path_factory
):
    import tempfile

    for wrong in ("", "relative", f"{runtime_folder}/missing"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", wrong)
        monkeypatch.setattr(tempfile, "tempdir", runtime_folder)
        async with Supervisor("app", control=True):
            assert str(only_socket()).startswith(f"{runtime_folder}/stopladder-{os.geteuid()}/") or os.path.isdir(
                f"/run/user/{os.geteuid()}"
            )


async def test_a_runtime_directory_that_others_may_write_into_is_not_used(monkeypatch, runtime_folder):
    import tempfile

    os.mkdir(f"{runtime_folder}/open")
    os.chmod(f"{runtime_folder}/open", 0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{runtime_folder}/open")
    monkeypatch.setattr(tempfile, "tempdir", runtime_folder)
    async with Supervisor("app", control=True):
        assert os.listdir(f"{runtime_folder}/open") == []


@pytest.mark.parametrize("wrong", ["link", "open", "file", "of another"])
async def test_a_folder_that_is_not_this_users_alone_is_refused(wrong, runtime_folder, events):
    folder = f"{runtime_folder}/stopladder"
    if wrong == "link":
        os.mkdir(f"{runtime_folder}/elsewhere", 0o700)
        os.symlink(f"{runtime_folder}/elsewhere", folder)
    elif wrong == "file":
        open(folder, "w").close()
    else:
        os.mkdir(folder)
        os.chmod(folder, 0o755 if wrong == "open" else 0o700)
    if wrong == "of another":
        if not IS_ROOT:
            pytest.skip("only root can give a folder away")
        os.chown(folder, NOBODY, NOBODY)
    assert "mode 0700" in await failure_of(True, events)
    assert sockets() == []


@pytest.mark.parametrize("how", ["folder", "above", "group"])
async def test_a_path_into_which_others_may_write_is_refused(how, runtime_folder, events):
    folder = f"{runtime_folder}/a/b"
    os.makedirs(folder, 0o700)
    os.chmod(os.path.dirname(folder) if how == "above" else folder, 0o770 if how == "group" else 0o777)
    assert "may write there" in await failure_of(f"{folder}/x.sock", events)
    assert os.listdir(folder) == []


async def test_a_link_to_a_folder_is_followed_once_and_the_socket_stays(runtime_folder):
    os.mkdir(f"{runtime_folder}/real", 0o700)
    os.mkdir(f"{runtime_folder}/other", 0o700)
    os.symlink("real", f"{runtime_folder}/link")
    async with Supervisor("app", control=f"{runtime_folder}/link/x.sock"):
        os.unlink(f"{runtime_folder}/link")
        os.symlink("other", f"{runtime_folder}/link")
        assert os.listdir(f"{runtime_folder}/real") == ["x.sock"]
    assert os.listdir(f"{runtime_folder}/real") == []


async def test_a_path_that_is_too_long_is_refused(runtime_folder, events):
    reason = await failure_of(f"{runtime_folder}/{'x' * 100}.sock", events)
    assert "at most 107" in reason


async def test_the_longest_path_works(runtime_folder):
    path = f"{runtime_folder}/{'x' * (107 - len(runtime_folder) - 1)}"
    async with Supervisor("app", control=path):
        assert (await beside(ask, "hello", path))["supervisor"] == "app"


async def test_a_name_that_is_no_file_name_and_long_is_made_one():
    async with Supervisor("\u00fc: <b>&" + "y" * 300, control=True):
        path = only_socket()
        assert path.name.isascii()
        assert len(path.name) < 60
        assert (await beside(ask, "hello"))["supervisor"].startswith("\u00fc: <b>")


# ------------------------------------------------------------------------------------------------ what is there


def dead(path):
    """A socket that a process has left behind."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


async def test_a_socket_of_a_dead_owner_is_replaced(runtime_folder):
    path = f"{runtime_folder}/x.sock"
    dead(path)
    async with Supervisor("app", control=path):
        assert (await beside(ask, "hello", path))["supervisor"] == "app"
    assert not os.path.exists(path)


async def test_sockets_of_dead_owners_are_swept_away_and_nothing_else(runtime_folder):
    folder = f"{runtime_folder}/stopladder"
    os.mkdir(folder, 0o700)
    dead(f"{folder}/1.dead.sock")
    open(f"{folder}/2.file.sock", "w").close()
    os.symlink("nowhere", f"{folder}/3.link.sock")
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        live.bind(f"{folder}/4.live.sock")
        live.listen()
        other.bind(f"{folder}/5.datagrams.sock")
        assert [path.name for path in sockets()] == ["4.live.sock", "5.datagrams.sock"]
        async with Supervisor("app", control=True):
            assert len(os.listdir(folder)) == 5
    assert sorted(os.listdir(folder)) == ["2.file.sock", "3.link.sock", "4.live.sock", "5.datagrams.sock"]


async def test_a_live_owner_is_left_alone(runtime_folder, events):
    path = f"{runtime_folder}/x.sock"
    async with Supervisor("first", control=path):
        assert "a live process listens" in await failure_of(path, events)
        assert (await beside(ask, "hello", path))["supervisor"] == "first"
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
async def test_what_is_no_socket_is_left_alone(kind, runtime_folder, events):
    path = f"{runtime_folder}/x.sock"
    if kind == "file":
        open(path, "w").close()
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(f"{runtime_folder}/target", path)
    else:
        os.mkfifo(path)
    before = os.lstat(path)
    assert "no socket" in await failure_of(path, events)
    assert os.path.samestat(os.lstat(path), before)
    assert not os.path.exists(f"{runtime_folder}/target")


async def test_a_socket_that_somebody_else_has_put_there_is_not_removed(runtime_folder):
    path = f"{runtime_folder}/x.sock"
    async with Supervisor("app", control=path):
        os.unlink(path)
        dead(path)
    assert os.path.exists(path)


async def test_two_that_want_one_path_at_once_do_not_take_it_from_each_other(runtime_folder, quiet):
    path = f"{runtime_folder}/x.sock"

    def use(number, barrier, names):
        async def main():
            barrier.wait()
            async with Supervisor(f"app{number}", control=path):
                names.append(ask("hello", path)["supervisor"])
                await asyncio.to_thread(barrier.wait)

        asyncio.run(main())

    for _ in range(5):
        barrier, names = threading.Barrier(4), []
        threads = [threading.Thread(target=use, args=(number, barrier, names)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await beside(thread.join)
        assert len(names) == 4
        assert len(set(names)) == 1
        assert not os.path.exists(path)


async def test_nobody_is_asked_where_nobody_is(runtime_folder):
    with pytest.raises(ControlError) as error:
        Connection(f"{runtime_folder}/x.sock")
    assert error.value.code == "unreachable"
    dead(f"{runtime_folder}/x.sock")
    with pytest.raises(ControlError, match="nobody listens") as error:
        Connection(f"{runtime_folder}/x.sock")
    with pytest.raises(ControlError):
        Connection("x" * 200)
