"""The search space: what may be said, what is refused, and which trials there are."""

import pathlib

import pytest

from vu_jax.build import parse
from vu_jax.config import beside
from vu_jax.errors import UserError
from vu_jax.search import (
  checked_space,
  choice,
  combinations,
  examples,
  grid,
  integers,
  is_active,
  log_uniform,
  parse_vary,
  text_of,
  uniform,
)

TYPED = [
  "optim.method=adamw,sgd",
  "optim.momentum=uniform(0.5, 0.99)@optim.method=sgd",
  "config.optim.lr_peak=log_uniform(1e-4,1e-2)",
  "model.hidden=(24,32),(8,)",
  "model.depth=integers(1,3)@model.hidden=(8,)@optim.method=sgd",
  "task.name=choice('a,b', c)",
]
MEANT = {
  "optim.method": choice("adamw", "sgd"),
  "optim.momentum": uniform(0.5, 0.99, when={"optim.method": "sgd"}),
  "optim.lr_peak": log_uniform(1e-4, 1e-2),
  "model.hidden": choice((24, 32), (8,)),
  "model.depth": integers(1, 3, when={"model.hidden": (8,), "optim.method": "sgd"}),
  "task.name": choice("a,b", "c"),
}


def test_what_is_typed_is_what_a_config_may_say():
  """All kinds, conditions, tuples and quotes."""
  assert checked_space(parse_vary(TYPED), "--vary") == MEANT


def test_a_value_is_the_text_of_an_override():
  """Read back by the config's own parser, it is the value again, to the last digit."""
  for value, kind in ((0.1 + 0.2, float), ((24, 32), tuple), (8, int), (True, bool), ("3e-4", str), (1e-07, float)):
    assert parse(text_of(value), kind, "x") == value


BAD = {
  "x": "must be KEY=A,B,C or KEY=uniform",
  "a=": "must be KEY=A,B,C",
  "a=1": "needs at least two values",
  "a=1,1": "each of them once",
  "a=1,,2": "a value is missing",
  "a=uniform(1)": "takes two numbers",
  "a=uniform(2,1)": "the first must be below the second",
  "a=uniform(x,1)": "must be two numbers",
  "a=uniform(True,2)": "must be two numbers",
  "a=uniform(0,1e999)": "must be two numbers",
  "a=log_uniform(0,1)": "must be above 0",
  "a=integers(1,2.5)": "must be whole numbers",
  "a=unifrom(0,1)": 'there is no unifrom(...); did you mean "uniform"?',
  "a=1,2@b": "a condition is @KEY=VALUE",
}


@pytest.mark.parametrize("text", BAD)
def test_mistakes_on_the_command_line_are_one_line(text: str):
  with pytest.raises(UserError) as error:
    parse_vary([text])
  assert str(error.value).startswith(f"--vary {text}: ")
  assert BAD[text] in str(error.value)
  with pytest.raises(UserError, match="given twice"):
    parse_vary(["a=1,2", "config.a=3,4"])


def test_spaces_that_cannot_be():
  """Empty, no parameters, and conditions that are never met."""
  for space, words in (
    ({}, "at least one parameter"),
    ({"a": 3}, "a = 3: must be choice"),
    ({"a": uniform(0, 1, when={"b": 1}), "b": choice(1, 2)}, "a: its condition is on b, which must stand before it"),
    ({"ab": choice(1, 2), "c": choice(1, 2, when={"ac": 1})}, 'did you mean "ab"?'),
    ({"b": choice(1, 2), "a": uniform(0, 1, when={"b": 3})}, "its condition b = 3 is never met"),
  ):
    with pytest.raises(UserError) as error:
      checked_space(space, "get_sweep()")
    assert words in str(error.value)


CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("file", [f for f in sorted(CONFIGS.glob("*.py")) if "def get_sweep" in f.read_text()], ids=str)
def test_the_spaces_of_the_configs(file: pathlib.Path):
  """Each is one; that their keys exist is checked when a sweep begins."""
  assert checked_space(beside(str(file), "get_sweep"), file.name)


SPACE = checked_space(
  {"m": choice("x", "y"), "d": integers(1, 3, when={"m": "y"}), "e": choice(0.1, 0.2, when={"d": 3})}, "test"
)


def test_the_grid_by_hand():
  """Keys whose conditions are not met are left out, so that nothing is tried twice."""
  found = grid(SPACE)
  assert found == [
    {"m": "x"},
    {"m": "y", "d": 1},
    {"m": "y", "d": 2},
    {"m": "y", "d": 3, "e": 0.1},
    {"m": "y", "d": 3, "e": 0.2},
  ]
  assert combinations(SPACE) == 5
  assert combinations({**SPACE, "u": uniform(0, 1)}) == float("inf")
  with pytest.raises(
    UserError, match=r"--sampler=grid: u: uniform\(0, 1\) has no end of values; give some, as --vary u="
  ):
    grid({**SPACE, "u": uniform(0, 1)})


def test_examples_meet_the_conditions():
  """Each has the value asked for, and what the key's conditions need; the larger ones all active keys."""
  alone, low, high = examples(SPACE, "e", 0.2)
  assert alone == low == high == {"m": "y", "d": 3, "e": 0.2}
  alone, low, high = examples(SPACE, "m", "y")
  assert (alone, low, high) == ({"m": "y"}, {"m": "y", "d": 1}, {"m": "y", "d": 3, "e": 0.2})
  assert not is_active(SPACE["d"], {"m": "x"})
  assert not is_active(SPACE["d"], {})
