"""The table of log events in the docs, as data."""

import re
from pathlib import Path

LOGS = Path(__file__).parents[2] / "docs" / "logs.md"
ROW = re.compile(r"^\| `((?:worker|supervisor|loop)\.\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)

LEVELS = {"debug", "info", "warning", "error"}


def catalogue():
    """Event name -> its levels and its fields, as the docs have them."""
    return {
        event: (LEVELS & set(re.findall(r"\w+", levels)), set(re.findall(r"`(\w+)`", fields)) | {"supervisor"})
        for event, levels, fields in ROW.findall(LOGS.read_text())
    }


def contradictions(events):
    """What was logged that the docs do not have."""
    known = catalogue()
    for event in events:
        levels, fields = known.get(event["event"], (set(), set()))
        if event["level"] not in levels or not set(event) - {"event", "level"} <= fields:
            yield event
