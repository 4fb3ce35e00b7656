"""Many trials of a config, chosen by Optuna.

plan.py, identity.py       what a sweep is; which one a directory holds
search.py, study.py        samplers and pruners; the trials in Optuna's storage, asked for under a lock, told once
groups.py                  trials that train together, and who is at work on them
workers.py, jobs.py        take a group, train it, tell; here, in several processes, on Slurm
    devices.py             what each process of a machine may use
record.py, view.py, show.py    study.json; the table of a sweep while it runs; what the program says
"""
