"""The type checker of the tests: beartype, for which an int is a float (PEP 484), as it is for everybody else."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
