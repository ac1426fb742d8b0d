"""The command line, as `python -m supervisor`; where the distribution is installed, `stopladder` is the same."""

import sys

from ._cli.main import run

if __name__ == "__main__":
    sys.exit(run())
