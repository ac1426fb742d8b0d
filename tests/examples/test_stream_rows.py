"""The example that streams rows: it closes the file where a client leaves, and serves all rows to one that stays."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "stream_rows.py"


def test_a_client_that_leaves_closes_the_file_and_one_that_stays_gets_all_rows():
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the file is closed",
        "the hasty client has taken 1000 rows; workers left: 0",
        "the file is closed",
        "the patient client has taken 50000 rows; workers left: 0",
    ]
