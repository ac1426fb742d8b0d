"""A machine of its own for a node, as far as the network goes: a namespace behind a cable that can be pulled."""

import os
import shutil
import subprocess

import pytest

NOBODY = "02:00:00:00:00:99"
"""A hardware address that nobody has: what is sent to it is lost, and nobody says so."""


def ip(*words, within=()):
    return subprocess.run([*within, "ip", *words], check=True, capture_output=True, text=True)


class Elsewhere:
    """A namespace, and the two ends of the cable to it; here is where the tests run.

    Attributes:
        here: The address of this end.
        there: That of the other one.
        within: The command that runs another one there.
    """

    def __init__(self):
        number = os.getpid() % 16384  # of a network with four addresses
        self._name = f"sl-{os.getpid()}"
        self._ends = f"slh{os.getpid()}", f"slt{os.getpid()}"
        first = f"10.{213 + number // 8192}.{number // 64 % 128}"
        self.here, self.there = (f"{first}.{number % 64 * 4 + end}" for end in (1, 2))
        self.within = ("ip", "netns", "exec", self._name)

    def __enter__(self):
        if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("networks are cut by `ip netns` here, which needs root and iproute2")
        try:
            self._begin()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"this machine has no network namespaces: {error.stderr.strip()}")
        return self

    def _begin(self):
        here, there = self._ends
        ip("netns", "add", self._name)
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._name)
        ip("addr", "add", f"{self.here}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("addr", "add", f"{self.there}/30", "dev", there, within=self.within)
        for device in (there, "lo"):
            ip("link", "set", device, "up", within=self.within)

    def __exit__(self, *_):
        for words in (("link", "del", self._ends[0]), ("netns", "del", self._name)):
            subprocess.run(["ip", *words], check=False, capture_output=True)

    def pull(self):
        """Pulls the cable."""
        ip("link", "set", self._ends[1], "down", within=self.within)

    def lose_what_goes_there(self):
        _lose(self._ends[0], self.there)

    def lose_what_comes_from_there(self):
        _lose(self._ends[1], self.here, self.within)

    def mend(self):
        """Makes all of it good again."""
        ip("link", "set", self._ends[1], "up", within=self.within)
        for end, address, within in zip(self._ends, (self.there, self.here), ((), self.within), strict=True):
            subprocess.run([*within, "ip", "neigh", "del", address, "dev", end], check=False, capture_output=True)


def _lose(end, address, within=()):
    ip("neigh", "replace", address, "lladdr", NOBODY, "nud", "permanent", "dev", end, within=within)
