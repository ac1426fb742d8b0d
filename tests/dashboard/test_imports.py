"""What the page needs beside the library, and what nobody pays who has none."""

import subprocess
import sys

import pytest


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize("missing", ["starlette", "jinja2"])
def test_what_is_missing_is_named_with_its_extra(missing):
    said = run(f"import sys; sys.modules[{missing!r}] = None; import supervisor.dashboard")
    assert said == (
        "ImportError: supervisor.dashboard needs starlette and jinja2: install the extra stopladder[dashboard]"
    )


def test_without_it_nothing_of_it_is_imported():
    said = run(
        "import sys, asyncio, supervisor\n"
        "async def main():\n"
        "    async with supervisor.Supervisor() as sup: await sup.run(sum, [1])\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith(('starlette', 'jinja2', 'supervisor.dashboard'))])"
    )
    assert said == "[]\n"
