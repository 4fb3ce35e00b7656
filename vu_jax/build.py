"""Strict construction: one section of a config becomes one typed object.

The fields of the class are the only legal keys, their defaults are the only defaults, their annotations are checked.
A mistake is one line that names key, value and cure.
"""

import ast
import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from ml_collections import ConfigDict

from vu_jax.errors import UserError
from vu_jax.glossary import Range

T = TypeVar("T")
Section: TypeAlias = Mapping[str, Any] | ConfigDict  # a ConfigDict is no Mapping


class Text(str):
  """A value typed on the command line, not read yet: the field's annotation says how."""


def build(cls: type[T], section: Section, where: str, **given: Any) -> T:
  """Makes `cls(**section, **given)` after checking every key and value against the fields of `cls`.

  Args:
    cls: a dataclass or a linen module.
    section: configured values; `name` chooses the file and is not passed on.
    where: dotted place of the section, for messages, such as "config.optim".
    **given: fields that the program sets; a config must not name them.

  Raises:
    UserError: unknown key, missing key, wrong type, or a value out of its range.
  """
  hints = typing.get_type_hints(cls, include_extras=True)
  fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
  open_keys = [k for k in fields if k not in given and k not in ("parent", "name")]
  values = {k: v for k, v in section.items() if k != "name"}
  for key in values:
    if key not in open_keys:
      raise UserError(f"{where}.{key}: unknown key{nearest(key, open_keys)} ({_known(open_keys)})")
  missing = [k for k in open_keys if k not in values and _required(fields[k])]
  if missing:
    raise UserError(f"{where}.{missing[0]} is missing: give it as --{where}.{missing[0]}=... or in the config")
  checked = {k: check(v, hints[k], f"{where}.{k}") for k, v in values.items()}
  try:
    return cls(**checked, **given)
  except UserError as error:
    raise UserError(f"{where}: {error}") from None


def check(value: Any, hint: Any, where: str) -> Any:
  """Returns `value` as the annotation `hint` wants it (an int becomes a float, a list a tuple).

  Stricter than `ConfigDict`, which takes `True` and `None` for an int and tuples of any length.

  Raises:
    UserError: wrong type, or out of the range of an `Annotated[..., Range]`.
  """
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return value
  if origin is Annotated:
    value = check(value, args[0], where)
    for bound in args[1:]:
      if isinstance(bound, Range) and not bound.low <= value <= bound.high:
        raise UserError(f"{where} = {value!r}: must be {_range_text(bound)}")
    return value
  if isinstance(value, Text):
    value = parse(value, origin or hint, where)
  if origin is Literal:
    if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
      options = ", ".join(repr(a) for a in args)
      raise UserError(f"{where} = {value!r}: must be one of {options}{nearest(str(value), list(map(str, args)))}")
    return value
  if origin is tuple:
    return _check_tuple(value, args, where)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
    raise UserError(f"{where} = {value!r}: must be {hint.__name__}, not {type(value).__name__}")
  return value


def parse(text: str, kind: Any, where: str) -> Any:
  """Reads what was typed for a field of this kind; only literals are understood, nothing is evaluated.

  Args:
    text: such as "3e-4", "(8, 16)", "True" or "cosine".
    kind: int, float, bool, str, tuple or list; anything else tries a literal, then takes the text as it is.

  Raises:
    UserError: the text is no such value.
  """
  if kind is str:
    return str(text)
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval may raise
    if kind in _KINDS:
      raise UserError(f"{where} = {str(text)!r}: must be {_KINDS[kind]}") from None
    return str(text)
  if kind is int and isinstance(value, float) and value.is_integer():
    return int(value)  # 1e4 steps
  return (value,) if kind in (tuple, list) and not isinstance(value, (tuple, list)) else value


def kind_text(kind: type) -> str:
  """What a value of this kind is called in a message."""
  return _KINDS.get(kind, kind.__name__)


_TUPLE = "a tuple such as (1, 2)"
_KINDS = {int: "an integer", float: "a number", bool: "True or False", tuple: _TUPLE, list: _TUPLE}


def _check_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
  if not isinstance(value, (tuple, list)):
    raise UserError(f"{where} = {value!r}: must be {_TUPLE}, not {type(value).__name__}")
  hints = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
  if len(hints) != len(value):
    raise UserError(f"{where} = {value!r}: must have {len(hints)} entries, not {len(value)}")
  return tuple(check(v, h, f"{where}[{i}]") for i, (v, h) in enumerate(zip(value, hints, strict=True)))


def _required(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def nearest(name: str, known: list[str]) -> str:
  """A clause that suggests the most similar known name, or nothing."""
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f'; did you mean "{near[0]}"?' if near else ""


def _known(keys: list[str]) -> str:
  return "keys here: " + ", ".join(keys) if keys else "no keys here"


def _range_text(bound: Range) -> str:
  low, high = f"{bound.low:g}", f"{bound.high:g}"
  if bound.high == float("inf"):
    return "above 0" if 0 < bound.low < 1 else f"at least {low}"
  return f"between {low} and {high}"
