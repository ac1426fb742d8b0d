"""A function of a module that imports nothing."""

import sys


def has_opentelemetry():
    return "opentelemetry" in sys.modules
