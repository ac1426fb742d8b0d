"""What a process sees of its owner's state: the environment, the folder, the import path and the umask of now."""

import asyncio
import os
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from supervisor import RemoteError, Supervisor

from ... import inside
from ...contract import functions as f
from .faults import sound, until


def look(*names):
    umask = os.umask(0)
    os.umask(umask)
    return [os.environ.get(name) for name in names], os.getcwd(), umask, sys.path[-1]


def look_as_a_worker(ctx, *names):
    return look(*names)


def changes_its_own(name):
    os.environ[name] = "its own"


@pytest.fixture
def changing(monkeypatch, tmp_path):
    """Changes this process's state, and undoes that."""
    umask, home = os.umask(0o022), Path.cwd()

    def change(value):
        folder = tmp_path / value
        folder.mkdir()
        os.chdir(folder)
        monkeypatch.setenv("SURROUNDINGS_TEST", value)
        monkeypatch.delenv("SURROUNDINGS_GONE", raising=False)
        monkeypatch.setattr(sys, "path", [*sys.path, f"/{value}"])
        return [value, None], str(folder), f"/{value}"

    monkeypatch.setenv("SURROUNDINGS_GONE", "still here")
    yield change
    os.umask(umask)
    os.chdir(home)


NAMES = ("SURROUNDINGS_TEST", "SURROUNDINGS_GONE")


async def test_a_call_sees_the_state_of_when_it_was_made_in_a_process_of_before(changing):
    async with sound(), Supervisor(max_processes=1) as sup:
        assert (await sup.run(look, *NAMES, kind="process"))[0] == [None, "still here"]
        first = changing("one")
        early = asyncio.ensure_future(sup.run(look, *NAMES, kind="process"))
        await asyncio.sleep(0)
        second = changing("two")
        late = asyncio.ensure_future(sup.run(look, *NAMES, kind="process"))
        for call, (environ, folder, path) in ((early, first), (late, second)):
            seen = await call
            assert (seen[0], seen[1], seen[3]) == (environ, folder, path)


async def test_a_worker_sees_the_state_of_its_start_though_its_process_was_there_before(changing):
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        await until(lambda: len(inside.processes(sup)) == 2, 20)  # the spare one
        for value, umask in (("one", 0o077), ("two", 0o027)):
            environ, folder, path = changing(value)
            os.umask(umask)
            worker = await sup.start(look_as_a_worker, *NAMES, kind="process")
            assert (await worker.wait()).value == (environ, folder, umask, path)


async def test_what_a_call_has_changed_stays_until_the_owner_changes_it(monkeypatch):
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(changes_its_own, "SURROUNDINGS_TEST", kind="process")
        monkeypatch.setenv("SURROUNDINGS_OTHER", "1")
        assert (await sup.run(look, "SURROUNDINGS_TEST", kind="process"))[0] == ["its own"]
        monkeypatch.setenv("SURROUNDINGS_TEST", "the owner's")
        assert (await sup.run(look, "SURROUNDINGS_TEST", kind="process"))[0] == ["the owner's"]


async def test_the_time_zone_is_that_of_the_environment(monkeypatch):
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(time.time, kind="process")
        monkeypatch.setenv("TZ", "XYZ-5")
        assert await sup.run(eval, "__import__('time').localtime(0).tm_zone", kind="process") == "XYZ"


async def test_another_mapping_in_place_of_the_environment(monkeypatch):
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        with mock.patch("os.environ", {"SURROUNDINGS_TEST": "another"}):
            assert (await sup.run(look, "SURROUNDINGS_TEST", "PATH", kind="process"))[0] == ["another", None]
        assert (await sup.run(look, "SURROUNDINGS_TEST", "PATH", kind="process"))[0] == [None, os.environ["PATH"]]


async def test_a_folder_that_is_gone_fails_the_calls_that_were_made_there_and_no_others(changing, board):
    home = Path.cwd()
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(abs, -1, kind="process")
        before = asyncio.ensure_future(sup.run(f.hold, board, kind="process"))
        await asyncio.sleep(0)
        _, folder, _ = changing("gone")
        call = asyncio.ensure_future(sup.run(look, kind="process"))
        await asyncio.sleep(0)
        os.chdir(home)
        Path(folder).rmdir()
        board.post("release")
        with pytest.raises(RemoteError, match="cannot be entered"):
            await call
        await before
        assert (await sup.run(look, kind="process"))[1] == str(home)
