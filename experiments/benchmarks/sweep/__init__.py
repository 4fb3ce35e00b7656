"""The suite "sweep".

suite.py    the rows: many trials as one population, and one after the other
"""
