"""Variants of an experiment, each with several seeds.

variants.py    names and values become experiments
plan.py        which runs there are, which are trained together, how they have ended
work.py        trains the groups, beside whoever else works on them
"""
