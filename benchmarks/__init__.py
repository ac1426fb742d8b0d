"""What the library costs, beside what is there without it. `python -m benchmarks [NAME ...]`, or `make bench`.

Ratios within one run are what counts: the contenders take turns, and their medians are compared. Nothing here prints a
log: the supervisors have a logger that is silent at every level, as an application has that logs nothing.
"""
