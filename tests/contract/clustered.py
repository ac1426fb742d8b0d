"""Has the tests of this folder run on the nodes of a cluster: which of them, and why not the others."""

from supervisor import Supervisor

__all__ = ["DIFFERENT", "ON_CLUSTER", "Clustered"]

ON_CLUSTER = ["cluster-thread", "cluster-process"]
"""Of which kind the workers are, on the nodes."""


DIFFERENT = {
    "test_iterate.py": "a cluster sends results, not items",
}
"""What does not hold on a cluster, by file or test, and why; docs/howto/cluster.md says so, too."""


class Clustered(Supervisor):
    """A supervisor whose calls and workers all run on the nodes of a cluster."""

    address = ""

    def __init__(self, *args, max_threads=None, max_processes=None, **options):
        super().__init__(*args, max_threads=max_threads, max_processes=max_processes, cluster=self.address, **options)
        for kind, size in (("thread", max_threads), ("process", max_processes)):
            if size is not None:
                Supervisor.pool(self, f"cluster-{kind}", kind=kind, size=size, on="cluster")

    async def run(self, fn, /, *args, kind=None, pool=None, **options):
        on = "cluster" if pool is None else None
        return await super().run(fn, *args, kind=kind, pool=pool, on=on, **options)

    async def start(self, fn, /, *args, **options):
        return await super().start(fn, *args, on="cluster", **options)

    def executor(self, kind=None, *, pool=None):
        return super().executor(kind, pool=pool or f"cluster-{kind or 'thread'}")

    def map(self, fn, items, *, kind=None, pool=None, **options):
        return super().map(fn, items, kind=kind, pool=pool or f"cluster-{kind or 'thread'}", **options)

    def iterate(self, fn, *args, kind=None, pool=None, **options):
        return super().iterate(fn, *args, kind=kind, pool=pool or f"cluster-{kind or 'thread'}", **options)

    def pool(self, name, **options):
        return super().pool(name, on="cluster", **options)

    def group(self, name, **options):
        group = super().group(name, **options)
        group.__class__ = Clustered
        return group
