"""WEIGHTS: parameters of other libraries become ours; one file per source, each a table of rules for `carry`.

A rule is (regex of a module's name there, its path here, kind): every parameter below the module is taken over at once.
"""
