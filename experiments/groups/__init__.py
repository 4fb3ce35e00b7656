"""Runs that are trained at once, as one population.

members.py     which runs may share a program, and the values in which they differ
train.py       trains a group, each member into a run directory of its own
part.py        one population on its way: evaluations, and members that end
record.py      who has ended, and how
deaths.py      how often the process has died of it
"""
