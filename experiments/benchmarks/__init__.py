"""What `experiments.benchmark` measures, and how. Stored results: `results/`, one file per machine.

machine.py   what runs here, and what else is running
timing.py    contenders take turns; a row's times, and whether the results agree
record.py    one JSON record per row; table.py shows them
ops/         the suite "ops": video ops, ours against plain XLA and torch
loader/      the suite "loader": clips from every store, against decord, torchcodec and OpenCV on the same files
"""
