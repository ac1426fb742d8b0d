"""Tables that fit a terminal, whatever is in them."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..inside import Cell, Column, Terminal, age, cells, table

COLUMNS = (Column("NAME", least=6), Column("KIND", rank=1), Column("AGE", right=True))
ROWS = [["feeds/reader-of-prices", "thread", "3m12s"], ["web", "process", "2s"]]
ESCAPES = re.compile(r"\x1b\[\d+m")


def lines(width=None, rows=ROWS, columns=COLUMNS, **more):
    return list(table(columns, [[Cell(text) for text in row] for row in rows], Terminal(width, **more)))


def test_columns_are_as_wide_as_what_is_in_them():
    assert lines() == [
        "NAME                    KIND       AGE",
        "feeds/reader-of-prices  thread   3m12s",
        "web                     process     2s",
    ]


def test_names_are_cut_in_the_middle_first():
    assert lines(30)[1] == "feeds/r…prices  thread   3m12s"
    assert lines(30, encoding="ascii")[1] == "feeds/r~prices  thread   3m12s"


def test_then_columns_are_left_out_by_their_rank():
    assert lines(20)[:2] == ["NAME             AGE", "feeds/…prices  3m12s"]


@given(
    st.lists(st.lists(st.text(), min_size=3, max_size=3), max_size=4),
    st.integers(20, 60),
    st.sampled_from(["utf-8", "ascii", "latin-1"]),
)
def test_no_line_is_wider_than_the_terminal_and_none_has_a_control_character(rows, width, encoding):
    shown = lines(width, rows, encoding=encoding)
    assert len(shown) == len(rows) + 1
    for line in shown:
        assert cells(line) <= width
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
        line.encode(encoding)


def test_characters_of_two_cells_count_as_two():
    assert cells("日本語") == 6
    assert cells("e\N{COMBINING ACUTE ACCENT}") == 1
    assert lines(None, [["日本語", "thread", "2s"]])[1] == "日本語  thread   2s"


def test_colours_do_not_change_the_widths():
    painted = list(table(COLUMNS, [[Cell("web", "green"), Cell("x"), Cell("2s", "red")]], Terminal(80, colours=True)))
    assert painted[1] == "\x1b[32mweb\x1b[0m   x      \x1b[31m2s\x1b[0m"
    assert ESCAPES.sub("", painted[1]) == lines(80, [["web", "x", "2s"]])[1]


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environ", "colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_only_a_terminal_that_nobody_wants_plain_has_colours(environ, colours, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "77")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Terminal.of(Screen()) == Terminal(77, colours, "utf-8")
    assert Terminal.of(io.StringIO()) == Terminal(None, colours=False, encoding="ascii")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0s"),
        (0.26, "0.3s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (192, "3m12s"),
        (3599.7, "1h00m"),
        (18_180, "5h03m"),
        (86_400 * 12 + 3600 * 4, "12d04h"),
        (-3.2, "-3.2s"),
        (-0.01, "0.0s"),
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "-"),
        ("3", "-"),
        (True, "-"),
    ],
)
def test_ages_are_said_as_people_say_them(seconds, said):
    assert age(seconds) == said
