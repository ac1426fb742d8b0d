"""`top`: in a real terminal, by tmux; and on a screen without one."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from .. import inside
from ..inside_shown import CLI
from ..programs import ROOT, run_program
from ..waiting import until
from .conftest import environment
from .fakes import answers, row, survey

PATIENCE = 40
"""Seconds within which something comes to the screen."""


class Terminal:
    """A terminal of tmux, with a program in it."""

    def __init__(self, folder, *command):
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        program = f"{shlex.join(command)}; echo status=$?; sleep 600"
        self._run("new-session", "-d", "-x", "120", "-y", "40", program)

    def _run(self, *command):
        environ = {name: value for name, value in environment().items() if name not in {"COLUMNS", "LINES"}}
        return subprocess.run([*self._tmux, *command], env=environ, capture_output=True, text=True, check=True).stdout

    @property
    def screen(self):
        return self._run("capture-pane", "-p")

    def press(self, *keys):
        """Presses keys, at the speed of somebody who types."""
        for key in keys:
            self._run("send-keys", "--", key)
            time.sleep(0.3)

    def wait_for(self, *texts, without=()):
        """Waits until all the texts are on the screen, and none of the others; returns it."""
        latest = time.monotonic() + PATIENCE
        while time.monotonic() < latest:
            screen = self.screen
            if all(text in screen for text in texts) and not any(text in screen for text in without):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"not {texts} without {without}:\n{self.screen}")

    def close(self):
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def top(folder):
    """Shows `top` in a terminal."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: .ci/browser gets it where CI may")
    shown = []

    def show(*options):
        shown.append(Terminal(folder.parent, sys.executable, "-m", "supervisor", "top", "--interval", "0.2", *options))
        return shown[-1]

    yield show
    for terminal in shown:
        terminal.close()


def test_it_shows_the_workers_with_the_stack_of_the_selected_one_and_finds_one_by_its_name(serve, top):
    service = serve("ingest", "-", "--workers", 3)
    terminal = top()
    terminal.wait_for(f"ingest  pid {service.pid}  running  ready", "feeds/reader", "worker-2", "ctx.stop.wait()")
    terminal.press("/", "r", "-", "1", "Enter")
    terminal.wait_for("worker-1", without=("feeds/reader", "worker-2"))
    terminal.press("q")
    terminal.wait_for("status=0")


def test_a_worker_is_stopped_once_that_was_asked_and_confirmed(serve, top):
    serve("ingest", "-", "--write", "--workers", 1)
    terminal = top("--match", "worker")
    terminal.wait_for("worker-0", "ctx.stop.wait()")
    terminal.press("x")
    terminal.wait_for("Stop worker-0 of ingest, by its ladder?")
    terminal.press("n")
    terminal.wait_for("worker-0", without=("by its ladder?",))
    terminal.press("x")
    terminal.wait_for("by its ladder?")
    terminal.press("y")
    terminal.wait_for("ingest  pid", without=("by its ladder?", "ctx.stop.wait()"))


def test_a_service_that_can_only_be_looked_at_is_not_changed(serve, top):
    serve("ingest")
    terminal = top()
    terminal.wait_for("feeds/reader", "ctx.stop.wait()")
    latest = time.monotonic() + PATIENCE
    while "can only be looked at" not in terminal.screen:  # it is shown for some seconds
        assert time.monotonic() < latest, terminal.screen
        terminal.press("r")
    terminal.wait_for("feeds/reader", without=("by its ladder",))


def test_a_shutdown_is_seen_as_it_climbs_with_its_report_and_the_service_again_when_it_is_back(serve, top):
    service = serve("ingest", "-", "--stubborn", "--grace", 6)
    terminal = top()
    terminal.wait_for("stubborn", "running")
    service.send_signal(signal.SIGTERM)
    terminal.wait_for("shutting down (SIGTERM)", "stopping", "inject in ")
    terminal.wait_for("abandon in ")
    terminal.wait_for("shutdown (SIGTERM) took ", "1 abandoned", "stubborn was last seen at:")
    again = serve("ingest")
    terminal.wait_for(f"pid {again.pid}", "feeds/reader", without=("took",))


def test_an_end_by_a_signal_leaves_the_terminal_as_it_was(serve, top):
    serve("ingest")
    terminal = top()
    terminal.wait_for("feeds/reader", "ctx.stop.wait()")
    own = f"{sys.executable} -m supervisor top --interval 0.2"
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and command_of(pid) == own.split()]
    (pid,) = [pid for pid in pids if variable(pid, "XDG_RUNTIME_DIR") == os.environ["XDG_RUNTIME_DIR"]]
    os.kill(pid, signal.SIGTERM)
    terminal.wait_for("status=0", without=("feeds/reader",))


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().split("\0")[:-1]
    except OSError:
        return []


def variable(pid, name):
    with open(f"/proc/{pid}/environ") as file:
        return dict(entry.partition("=")[::2] for entry in file.read().split("\0")).get(name)


def test_without_a_terminal_or_without_textual_it_says_what_to_do(cli):
    done = cli("top")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`ps --json`" in done.stderr
    script = f"import sys; sys.modules['textual'] = None; from {CLI} import main; sys.exit(main(['top']))"
    without = run_program(sys.executable, "-c", script, cwd=ROOT)
    assert without.returncode == 2
    assert "pip install 'stopladder[top]'" in without.stderr


EVIL = "[red]\x1b]0;gone\x07\x1b[2J\u202e[/red] [bold"


async def test_nothing_that_a_service_says_is_more_than_text_on_the_screen(fake, folder):
    fake(answers(survey(row(EVIL, pool=EVIL, step=EVIL), supervisor=EVIL), stack=EVIL), "7.evil.sock")
    app = inside.live_screen()(lambda: [folder / "7.evil.sock"], interval=0.1)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: "bold" in text_of(app))
        await pilot.press("x")
        await pilot.pause()
        said = text_of(app)
    assert "[red]" in said
    assert not set("\x1b\x07\u202e") & set(said)


async def test_a_service_that_hangs_does_not_hold_up_the_others(fake, folder):
    fake(None, "1.hangs.sock")
    fake(answers(survey(row("reader"))), "2.fine.sock")
    paths = [folder / "1.hangs.sock", folder / "2.fine.sock"]
    app = inside.live_screen()(lambda: paths, interval=0.1, patience=0.5)
    async with app.run_test(size=(140, 30)):
        await until(lambda: "reader" in text_of(app))
        await until(lambda: "no answer within 0.5 s" in text_of(app))


def text_of(app):
    """Returns what is on the screen, as lines."""
    shown = [widget for widget in app.screen.walk_children() if widget.is_on_screen]
    return "\n".join(widget.render_line(line).text for widget in shown for line in range(widget.size.height))


async def test_its_timer_may_ring_once_more_when_the_screen_has_been_taken_down(fake, folder):
    fake(answers(survey(row("poller"))), "7.a.sock")
    app = inside.live_screen()(lambda: [folder / "7.a.sock"], interval=0.1)
    async with app.run_test(size=(140, 30)):
        await app.query("#head").remove()
        app.show()
