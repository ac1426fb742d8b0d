"""The command line, `python -m supervisor`: one module for each command."""
