"""One running supervisor."""
