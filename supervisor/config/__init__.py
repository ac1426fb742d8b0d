"""Ladders, restarts and times from a TOML file and the environment, for whoever runs the service.

`load` reads them, `Supervisor(config=...)` follows them, and `python -m supervisor check policy.toml` shows them.
"""

from __future__ import annotations

from .budget import OverBudget, Platform
from .config import Config
from .layers import Layer
from .loading import PREFIX, ConfigError, load
from .pool_layers import PoolLayer
from .sources import Problem

__all__ = ["PREFIX", "Config", "ConfigError", "Layer", "OverBudget", "Platform", "PoolLayer", "Problem", "load"]
