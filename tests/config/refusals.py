"""What a configuration is refused for."""

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor import PolicyError
from supervisor.config import ConfigError, load


def refused(source, **options):
    """Returns what is wrong with a configuration, without the folder of its file."""
    with pytest.raises(ConfigError) as caught:
        load(source, **{"environ": {}, **options})
    assert isinstance(caught.value, PolicyError)
    return [replace(problem, source=Path(problem.source).name) for problem in caught.value.problems]
