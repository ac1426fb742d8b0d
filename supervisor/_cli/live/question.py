"""Asks whether something is really to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

__all__ = ["Question"]


class Question(ModalScreen[bool]):
    """A question over the screen; its result is whether the answer was yes."""

    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical {
        width: auto; max-width: 80%; height: auto; border: round $warning; padding: 1 2; background: $surface;
    }
    Question Static { width: auto; max-width: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "answer(True)", "yes"),
        ("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"{self._text}\n\ny: yes    n: no", markup=False)

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001
        """Gives it."""
        self.dismiss(answer)
