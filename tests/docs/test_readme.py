"""The code in the README and in the docs runs as it stands there."""

import re
import subprocess
import sys
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
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in re.findall(r"# prints: (.*)$", code, re.MULTILINE):
        assert line in done.stdout


def test_the_pages_have_snippets():
    assert len(SNIPPETS) >= 3
