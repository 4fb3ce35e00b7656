"""The suite "loader".

suite.py      the rows: every store and sampler, read by us and by others
videos.py     the videos that are read, drawn and encoded as data sets ship them
readers.py    how others read the same clips from the same files
"""
