"""One run, from its config to its records.

assemble.py, extra.py                  a config becomes an experiment, with further training data
dataset.py, training_data.py           the prepared dataset; what it trains on
ready.py                               everything up to step 1: data, compiled step, checks
    preflight.py, announce.py          memory, disk and speed checked; what it is about to do, printed
start.py                               checkpoints, and the state that it begins with
score.py, outcome.py                   figures of a split; predictions, examples, result.json
trained.py                             a run directory, opened again
dry_run.py, capacity.py                measured up to step 1; what a cluster would need
"""
