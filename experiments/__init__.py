"""The programs, and what they are made of; the only place that sees every part.

launch evaluate predict prepare preview summary report sweep ablate benchmark    the programs; each is thin
cli.py progress.py                     arguments, errors in one line; progress of long work
cluster.py prepare_jobs.py             jobs here or on Slurm; a dataset prepared by many
running/                               one run, from its config to its records
groups/                                runs that are trained at once
sweeps/  ablations/                    many trials of a config; variants of it
benchmarks/                            ours against others
"""
