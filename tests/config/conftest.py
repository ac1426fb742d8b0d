"""What the tests of configurations share."""

import pytest


@pytest.fixture
def written(tmp_path):
    """Writes a file and returns its path."""

    def write(text):
        path = tmp_path / "policy.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
