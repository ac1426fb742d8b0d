"""What makes a Dask worker a node, which takes runs of supervisors elsewhere. Their side is `_kinds.cluster`."""
