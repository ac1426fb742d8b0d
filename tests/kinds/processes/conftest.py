"""What these tests share."""

import pytest

from ...contract.functions import Board


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)
