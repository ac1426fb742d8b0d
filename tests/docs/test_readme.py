"""The code in the README and in the docs runs as it stands there."""

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]
SNIPPETS = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE), 1)
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_a_snippet_pasted_into_a_file_runs(page, code, tmp_path):
    script = tmp_path / "pasted.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in re.findall(r"# prints: (.*)$", code, re.MULTILINE):
        assert line in done.stdout


def test_a_lifespan_that_waits_for_signals_works_outside_the_main_thread_where_test_clients_run_it():
    code = (ROOT / "docs/howto/fastapi.md").read_text().partition("## Stop the workers while")[2]
    (code,) = re.findall(r"^```python\n(.*?)^```", code, re.DOTALL | re.MULTILINE)
    names = {"__name__": "app"}
    exec("\n".join(line for line in code.splitlines() if "simulates Ctrl-C" not in line), names)

    async def serve():
        async with names["lifespan"](None):
            await asyncio.sleep(0.01)

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, serve()).result(60)


def test_the_pages_have_snippets():
    assert len(SNIPPETS) >= 3
