"""What runs in a worker process. Light: each further module costs a tenth of a millisecond of its start."""

FOLDER = f"{__path__[0]}/"
"""Our own frames are in files of this folder: no traceback begins with them."""
