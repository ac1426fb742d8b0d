"""In how many ways a program can be run, and functions and classes of its main module reach worker processes."""

import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from ...programs import run_program

ROOT = Path(__file__).parents[3]

DEFINITIONS = """
    import asyncio, sys
    from dataclasses import dataclass
    from supervisor import Supervisor

    @dataclass
    class Point:
        x: int

    class Mine(Exception):
        pass

    def double(point):
        return Point(2 * point.x)

    def fails():
        raise Mine("mine")

"""

PROGRAM = (
    DEFINITIONS
    + """
    def worker(ctx):
        assert ctx.call(double, Point(1)) == Point(2)
        return Point(3)

    async def main():
        async with Supervisor(max_processes=1) as sup:
            got = [await sup.run(double, Point(4), kind="process")]
            try:
                await sup.run(fails, kind="process")
            except Mine as error:
                got.append(error)
            got.append((await (await sup.start(worker, kind="process")).wait()).value)
            print("GOT", got == [Point(8), got[1], Point(3)] and str(got[1]))

    if __name__ == "__main__":
        asyncio.run(main())
"""
)


def ran(folder, *command, text="", **environ):
    """Runs a program in the folder."""
    return run_program(sys.executable, *command, cwd=folder, text=text, **environ)


def got(done):
    lines = [line for line in done.stdout.splitlines() if line.startswith("GOT")]
    assert lines, done.stderr
    return lines


@pytest.fixture
def folder(tmp_path):
    text = textwrap.dedent(PROGRAM)
    package = tmp_path / "package"
    package.mkdir()
    for path in (package / "__main__.py", package / "module.py", tmp_path / "script.py"):
        path.write_text(text)
    (package / "__init__.py").touch()
    (tmp_path / "runs.py").write_text("import runpy\nrunpy.run_path('script.py', run_name='__main__')\n")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as app:
        app.writestr("__main__.py", text)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "script.py",
        "package/../script.py",
        "-m package.module",
        "-m package",
        "package",
        "app.pyz",
        "runs.py",
        "-m pdb -c c -c q script.py",
        "-OO -B -E -s -Xutf8 -X nodev -W error script.py",
    ],
)
def test_functions_and_classes_of_the_main_module_however_it_is_run(folder, command):
    if " -E " in command:
        (folder / "script.py").write_text(f"import sys; sys.path.insert(1, {str(ROOT)!r})\n" + textwrap.dedent(PROGRAM))
    assert got(ran(folder, *command.split())) == ["GOT mine"]


def test_what_runs_of_itself_in_a_package_names_the_guard(folder):
    main = folder / "package" / "__main__.py"
    main.write_text(main.read_text().replace('if __name__ == "__main__":\n    asyncio', "asyncio"))
    done = ran(folder, "-m", "package")
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr


WITHOUT_CLOUDPICKLE = "import sys; sys.modules['cloudpickle'] = None\n"

TYPED = """
import asyncio, functools
from supervisor import Supervisor

class Point:
    def __init__(self, x):
        self.x = x

def double(x):
    return 2 * x

def doubled(point):
    return Point(2 * point.x)

async def main():
    async with Supervisor(max_processes=1) as sup:
        for fn, what in ((double, 2), (functools.partial(double), 2), (len, [1]), (id, Point(1)), (str, "__main__")):
            try:
                print("GOT", await sup.run(fn, what, kind="process") and "a value")
            except Exception as error:
                print("GOT", type(error).__name__, error)
        if CLOUDPICKLE:
            assert (await sup.run(doubled, Point(2), kind="process")).x == 4

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["-c", "-"])
def test_what_is_typed_in_is_refused_by_name_with_the_ways_out(folder, how):
    text = WITHOUT_CLOUDPICKLE + TYPED.replace("CLOUDPICKLE", "False")
    done = ran(folder, "-c", text) if how == "-c" else ran(folder, "-", text=text)
    one, partial, plain, argument, word = got(done)
    for line in (one, partial):
        assert line.startswith("GOT TypeError fn=")
        assert "double" in line
        assert "no process can import that. Put it into a module" in line
        assert "stopladder[cloudpickle]" in line
    assert plain == word == "GOT a value"
    assert argument.startswith("GOT RemoteError")
    assert "Point" in argument
    assert "no process can import that. Put the function or class into a module" in argument


def test_the_module_of_a_shell_is_not_that_of_what_is_typed_into_it(folder):
    """As in `python -m asyncio`."""
    (folder / "shell.py").write_text("import sys; sys.ps1 = '>>> '; exec(sys.stdin.read())")
    text = WITHOUT_CLOUDPICKLE + TYPED.replace("CLOUDPICKLE", "False")
    assert got(ran(folder, "-m", "shell", text=text))[0].startswith("GOT TypeError fn=double")


@pytest.mark.parametrize("how", ["-c", "-"])
def test_what_is_typed_in_is_sent_by_value_where_cloudpickle_is_there(folder, how):
    pytest.importorskip("cloudpickle")
    text = TYPED.replace("CLOUDPICKLE", "True")
    done = ran(folder, "-c", text) if how == "-c" else ran(folder, "-", text=text)
    assert got(done) == ["GOT a value"] * 5
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ frozen programs


FROZEN = f"""\
#!{sys.executable}
import sys
sys.frozen = True
sys.executable = __file__
"""


def frozen(folder, text):
    """A stand-in for a frozen program: it runs itself, whatever options it is given."""
    path = folder / "frozen"
    path.write_text(FROZEN + textwrap.dedent(text))
    path.chmod(0o755)
    return run_program(path, cwd=folder)


def test_a_frozen_program_that_calls_freeze_support_first(folder):
    guard = 'if __name__ == "__main__":\n'
    support = "    import multiprocessing\n    multiprocessing.freeze_support()\n    print('STARTED')\n"
    done = frozen(folder, textwrap.dedent(PROGRAM).replace(guard, guard + support))
    assert got(done) == ["GOT mine"]
    assert done.stdout.count("STARTED") == 1


def test_a_frozen_program_that_does_not_is_not_started_again_and_again(folder):
    done = frozen(folder, PROGRAM + '        print("over")\n')
    assert done.returncode == 1
    assert "SupervisorError" in done.stderr.splitlines()[-1] or "SupervisorError" in done.stderr
    assert "multiprocessing.freeze_support()" in done.stderr


# ------------------------------------------------------------------------------------------------ the interpreter


EMBEDDED = """
    import asyncio, sys
    from supervisor import Supervisor

    executable, sys.executable = sys.executable, EXECUTABLE
    if "set" in sys.argv:
        import multiprocessing
        multiprocessing.set_executable(executable)

    async def main():
        async with Supervisor(max_processes=1) as sup:
            print("GOT", await sup.run(abs, -1, kind="process"))

    if __name__ == "__main__":
        asyncio.run(main())
"""


@pytest.mark.parametrize("executable", ["None", "''", "'/usr/bin/false'"])
def test_the_interpreter_is_the_one_that_multiprocessing_was_given(folder, executable):
    text = EMBEDDED.replace("EXECUTABLE", executable)
    (folder / "embedded.py").write_text(textwrap.dedent(text))
    assert got(ran(folder, "embedded.py", "set")) == ["GOT 1"]
    done = ran(folder, "embedded.py")
    assert done.returncode == 1
    if executable != "'/usr/bin/false'":
        assert "multiprocessing.set_executable(path)" in done.stderr
