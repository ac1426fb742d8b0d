"""What is no test, and can be imported only beside the instrumented copy of the library."""

collect_ignore = ["program.py"]
