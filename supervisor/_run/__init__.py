"""One run of a worker, and what its kind and its owner must offer."""
