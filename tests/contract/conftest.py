"""Each test of this folder runs on threads and in processes: what is promised is promised for both."""

import pytest

from .functions import Board


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)
