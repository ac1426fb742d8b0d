"""What the library costs, beside what is there without it: `python -m benchmarks [SECTION ...]`, or `make bench`.

Ratios within one run are what counts: the contenders take turns in one process, and their medians are compared. Each
section has a process of its own, and each table the floor: the least that can be done, by hand. Nothing here prints a
log: the supervisors have a logger that is silent at every level, as an application has that logs nothing.
"""
