"""Runs on the nodes of a cluster: the owner's side. What is done there is in `supervisor._node`."""

from .cluster import Cluster
from .kind import Remote

__all__ = ["Cluster", "Remote"]
