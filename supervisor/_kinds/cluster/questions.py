"""Asks nodes where runs stand, and waits for the answers."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING

from ..._loop.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from .node import RemoteNode

    Stacks = list[str | None]

__all__ = ["Questions"]


class Questions:
    """The questions to nodes that have no answer yet. Any thread.

    Args:
        send: Has something be said to a node.
        may_answer: Whether a node can answer at all.
    """

    def __init__(self, send: Callable[..., object], may_answer: Callable[[RemoteNode], bool]) -> None:
        self._send = send
        self._may_answer = may_answer
        self._answers: dict[int, Future[Stacks]] = {}
        self._number = count(1)

    def stacks(self, runs: dict[RemoteNode, list[int]], seconds: float) -> dict[RemoteNode, Stacks]:
        """Asks nodes, at once, where runs stand, by their numbers; waits for the answers, so long at most in all.

        A node that does not answer is left out, and not waited for again until it does.
        """
        until = monotonic() + seconds
        asked = {node: self._ask(node, numbers) for node, numbers in runs.items() if self._is_asked(node)}
        answers: dict[RemoteNode, Stacks] = {}
        for node, (question, answer) in asked.items():
            try:
                answers[node] = answer.result(max(0.0, until - monotonic()))
            except TimeoutError:
                node.unanswered = question
                if answer.done():  # just now
                    node.unanswered = None
            finally:
                self._answers.pop(question, None)
        return answers

    def _is_asked(self, node: RemoteNode) -> bool:
        return node.unanswered is None and self._may_answer(node)

    def _ask(self, node: RemoteNode, numbers: list[int]) -> tuple[int, Future[Stacks]]:
        question, answer = next(self._number), Future[list[str | None]]()
        self._answers[question] = answer
        self._send(node, "stacks", question, numbers)
        return question, answer

    def answered(self, node: RemoteNode, question: int, stacks: Stacks) -> None:
        """A node has answered."""
        answer = self._answers.get(question)
        if answer is not None and not answer.done():
            answer.set_result(stacks)
        if node.unanswered == question:  # last: whoever gives up just now notes it first, and looks for the answer then
            node.unanswered = None
