"""Whoever asks a node, and gives up at the very moment at which it answers, asks it again the next time."""

import threading

from ..inside_cluster import Questions


class Node:
    """One whose answer is looked at while whoever has asked gives up: `gave_up` is that."""

    def __init__(self):
        self.gave_up = lambda: None
        self._unanswered = None

    @property
    def unanswered(self):
        before = self._unanswered
        if threading.current_thread() is threading.main_thread():
            self.gave_up()
        return before

    @unanswered.setter
    def unanswered(self, question):
        self._unanswered = question


def ask(questions, node, seconds, answers):
    thread = threading.Thread(target=lambda: answers.append(questions.stacks({node: [1]}, seconds)))
    thread.start()
    return thread


def test_a_node_that_answers_as_one_gives_up_is_asked_again():
    asked, answers = threading.Semaphore(0), []
    questions, node = Questions(lambda *_: asked.release(), lambda _: True), Node()
    thread = ask(questions, node, 20, answers)
    assert asked.acquire(timeout=20)
    node.gave_up = thread.join
    questions.answered(node, 1, ["  in a function"])
    node.gave_up = lambda: None
    assert node.unanswered is None
    assert answers == [{node: ["  in a function"]}]


def test_a_node_that_has_not_answered_is_not_waited_for_until_it_does():
    asked, answers = threading.Semaphore(0), []
    questions, node = Questions(lambda *_: asked.release(), lambda _: True), Node()
    ask(questions, node, 0.01, answers).join()
    ask(questions, node, 1000, answers).join()
    assert answers == [{}, {}]
    questions.answered(node, 1, ["too late"])
    thread = ask(questions, node, 1000, answers)
    assert asked.acquire(timeout=20)
    assert asked.acquire(timeout=20)
    questions.answered(node, 2, ["in time"])
    thread.join()
    assert answers[2:] == [{node: ["in time"]}]
