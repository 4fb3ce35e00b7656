"""The type checker of the tests: beartype, for which an int is a float (PEP 484), as it is for everybody else.

And so is a number that is traced: a hyperparameter in which the members of a population differ.
"""

from beartype import BeartypeConf, FrozenDict, beartype
from jax.core import Tracer

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({float: float | int | Tracer, int: int | Tracer})))
