"""SEARCH: which values a sweep tries. `get_sweep()` of a config returns such a space, {dotted key: what it may be}.

def get_sweep():
  return {
    "optim.lr_peak": log_uniform(1e-4, 1e-2),
    "optim.method": choice("adamw", "sgd"),
    "optim.momentum": uniform(0.5, 0.99, when={"optim.method": "sgd"}),
  }

On the command line the same is --vary 'optim.lr_peak=log_uniform(1e-4,1e-2)' --vary optim.method=adamw,sgd
--vary 'optim.momentum=uniform(0.5,0.99)@optim.method=sgd'. A value is applied as the text of an ordinary override.
"""

import ast
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vu_jax.build import nearest
from vu_jax.config import split_values, text_of
from vu_jax.errors import UserError

Kind: TypeAlias = Literal["choice", "uniform", "log_uniform", "integers"]
Conditions: TypeAlias = Mapping[str, Any]
Values: TypeAlias = dict[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class Parameter:
  """What one key may be; made by the functions below.

  Fields:
    low, high: of a range, both included. choices: of a choice.
    when: it is part of a trial only if the keys here have these values; "" for what is always.
  """

  kind: Kind
  low: float = 0.0
  high: float = 0.0
  choices: tuple[Any, ...] = ()
  when: Conditions = field(default_factory=dict)

  def record(self) -> dict[str, Any]:
    """For JSON."""
    limits = {"choices": list(self.choices)} if self.kind == "choice" else {"low": self.low, "high": self.high}
    return {"kind": self.kind, **limits, "when": dict(self.when)}

  def values(self) -> tuple[Any, ...]:
    """All of them, in order; none of a range of real numbers, which has no end of them."""
    if self.kind == "integers":
      return tuple(range(int(self.low), int(self.high) + 1))
    return self.choices

  def __contains__(self, value: Any) -> bool:
    if self.kind == "choice":
      return text_of(value) in map(text_of, self.choices)
    return isinstance(value, (int, float)) and self.low <= value <= self.high

  def __str__(self) -> str:
    inside = map(text_of, self.choices) if self.kind == "choice" else (f"{self.low:g}", f"{self.high:g}")
    return f"{self.kind}({', '.join(inside)})" + "".join(f" when {k} = {text_of(v)}" for k, v in self.when.items())


Space: TypeAlias = Mapping[str, Parameter]


def choice(*values: Any, when: Conditions | None = None) -> Parameter:
  """One of these values: numbers, texts, booleans, or tuples of them. Their order means nothing.

  Raises:
    UserError: fewer than two, or one of them twice.
  """
  texts = [text_of(value) for value in values]
  if len(set(texts)) < max(len(texts), 2):
    raise UserError(f"choice({', '.join(texts)}): needs at least two values, each of them once")
  return Parameter("choice", choices=values, when=dict(when or {}))


def uniform(low: float, high: float, when: Conditions | None = None) -> Parameter:
  """A real number, all equally likely."""
  _check_range("uniform", low, high)
  return Parameter("uniform", float(low), float(high), when=dict(when or {}))


def log_uniform(low: float, high: float, when: Conditions | None = None) -> Parameter:
  """A positive real number, all orders of magnitude equally likely."""
  _check_range("log_uniform", low, high)
  if low <= 0:
    raise UserError(f"log_uniform({low!r}, {high!r}): must be above 0")
  return Parameter("log_uniform", float(low), float(high), when=dict(when or {}))


def integers(low: float, high: float, when: Conditions | None = None) -> Parameter:
  """A whole number, both ends included."""
  _check_range("integers", low, high)
  if int(low) != low or int(high) != high:
    raise UserError(f"integers({low!r}, {high!r}): must be whole numbers")
  return Parameter("integers", int(low), int(high), when=dict(when or {}))


def _check_range(kind: str, low: Any, high: Any) -> None:
  shown = f"{kind}({low!r}, {high!r})"
  for value in (low, high):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
      raise UserError(f"{shown}: must be two numbers")
  if low >= high:
    raise UserError(f"{shown}: the first must be below the second")


def checked_space(space: Any, where: str) -> Space:
  """Accepts what `get_sweep` gave, or what was typed.

  Raises:
    UserError: it is empty or no mapping to parameters, or a condition is on a key that does not stand before it, or
      is never met.
  """
  if not isinstance(space, Mapping) or not space:
    raise UserError(f"{where}: must give at least one parameter, as {{key: uniform(a, b)}}; see vu_jax/search.py")
  before: dict[str, Parameter] = {}
  for key, parameter in space.items():
    if not isinstance(parameter, Parameter):
      raise UserError(f"{where}: {key} = {parameter!r}: must be choice(...), uniform, log_uniform or integers")
    for other, value in parameter.when.items():
      if other not in before:
        raise UserError(
          f"{where}: {key}: its condition is on {other}, which must stand before it{nearest(other, [*before])}"
        )
      if value not in before[other]:
        raise UserError(
          f"{where}: {key}: its condition {other} = {text_of(value)} is never met ({other}: {before[other]})"
        )
    before[key] = parameter
  return before


def is_active(parameter: Parameter, values: Values) -> bool:
  """Whether its conditions are met by the values of the keys before it."""
  return all(key in values and text_of(values[key]) == text_of(value) for key, value in parameter.when.items())


def grid(space: Space) -> list[Values]:
  """All combinations, those of the last key beside each other; without keys whose conditions are not met.

  Raises:
    UserError: a range of real numbers, which has no end of values.
  """
  for key, parameter in space.items():
    if not parameter.values():
      raise UserError(f"--sampler=grid: {key}: {parameter} has no end of values; give some, as --vary {key}=A,B,C")
  return list(_grid([*space.items()], {}))


def _grid(rest: Sequence[tuple[str, Parameter]], values: Values) -> Iterator[Values]:
  if not rest:
    yield values
    return
  (key, parameter), *others = rest
  if not is_active(parameter, values):
    yield from _grid(others, values)
    return
  for value in parameter.values():
    yield from _grid(others, {**values, key: value})


def extremes(parameter: Parameter) -> tuple[Any, ...]:
  """All values of a choice, both ends of a range."""
  return parameter.choices or (parameter.low, parameter.high)


def examples(space: Space, key: str, value: Any) -> list[Values]:
  """Trials in which a key has this value: with what its conditions need only, then with all keys, low and high."""
  forced = {**_needed(space, key), key: value}
  return [forced, _end(space, forced, 0), _end(space, forced, -1)]


def _needed(space: Space, key: str) -> Values:
  """The conditions of a key, and those of the keys that they are on."""
  values: Values = {}
  for other, value in space[key].when.items():
    values |= {**_needed(space, other), other: value}
  return values


def _end(space: Space, forced: Values, end: int) -> Values:
  values: Values = {}
  for key, parameter in space.items():
    if is_active(parameter, values):
      values[key] = forced[key] if key in forced else extremes(parameter)[end]
  return values


_SPEC = re.compile(r"(\w+)\((.*)\)", re.DOTALL)


def parse_vary(texts: Sequence[str]) -> Space:
  """Reads what was typed: KEY=choice(A,B), uniform(A,B), log_uniform(A,B), integers(A,B), or A,B,C for a choice.

  Conditions follow, each as @KEY=VALUE. Nothing is evaluated.

  Raises:
    UserError: a text of another form, or a key given twice.
  """
  found: dict[str, Parameter] = {}
  for text in texts:
    key, equals, rest = text.partition("=")
    if not equals or not key.strip() or not rest.strip():
      raise UserError(
        f"--vary {text}: must be KEY=A,B,C or KEY=uniform(A,B), such as 'optim.lr_peak=log_uniform(1e-4,1e-2)'"
      )
    key = key.strip().removeprefix("config.")
    if key in found:
      raise UserError(f"--vary {text}: {key} is given twice")
    spec, *conditions = split_values(rest, "@")
    try:
      found[key] = _parameter(spec.strip(), dict(_condition(c) for c in conditions))
    except UserError as error:
      raise UserError(f"--vary {text}: {error}") from None
  return found


def _parameter(spec: str, when: Values) -> Parameter:
  call = _SPEC.fullmatch(spec)
  if not call:
    return choice(*map(_value, split_values(spec, ",")), when=when)
  makers = {"uniform": uniform, "log_uniform": log_uniform, "integers": integers}
  kind, values = call[1], [_value(text) for text in split_values(call[2], ",")]
  if kind == "choice":
    return choice(*values, when=when)
  if kind not in makers:
    raise UserError(f"there is no {kind}(...){nearest(kind, ['choice', *makers])} (choice, {', '.join(makers)})")
  if len(values) != 2:
    raise UserError(f"{kind}(A, B) takes two numbers")
  _check_range(kind, *values)
  return makers[kind](*values, when=when)


def _condition(text: str) -> tuple[str, Any]:
  key, equals, value = text.partition("=")
  if not equals or not key.strip() or not value.strip():
    raise UserError(f"@{text}: a condition is @KEY=VALUE")
  return key.strip().removeprefix("config."), _value(value)


def _value(text: str) -> Any:
  """A literal, or the text itself."""
  text = text.strip()
  if not text:
    raise UserError("a value is missing")
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    return text


def combinations(space: Space) -> float:
  """How many different trials there are; infinite with ranges of real numbers."""
  if not all(parameter.values() for parameter in space.values()):
    return math.inf
  return sum(1 for _ in itertools.islice(_grid([*space.items()], {}), 1_000_000))
