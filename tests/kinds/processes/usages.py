"""Uses memory and CPU, in tests."""

import time

MIB = 1 << 20


def hold(mib):
    """Takes memory that is really there."""
    block = bytearray(mib * MIB)
    block[::4096] = b"x" * len(block[::4096])
    return block


def burn(seconds):
    """Uses CPU."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
