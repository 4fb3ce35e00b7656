"""Sliding windows: the sizes, strides and paddings that convolutions and pools have in common, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Pads: TypeAlias = tuple[tuple[int, int], ...]
Padding: TypeAlias = Literal["SAME", "VALID"] | Sequence[int | tuple[int, int]]
AXES = ("time", "height", "width")


@dataclass(frozen=True)
class Window:
  """How the window moves; every tuple has one entry per axis."""

  strides: tuple[int, ...]
  pads: Pads
  dilation: tuple[int, ...]
  groups: int = 1

  def without(self, axis: int) -> "Window":
    """For the convolution whose window is 1 along `axis`: nothing left to pad or to skip there."""
    return replace(
      self,
      strides=_put(self.strides, axis, 1),
      pads=_put(self.pads, axis, (0, 0)),
      dilation=_put(self.dilation, axis, 1),
    )


def _put(values: tuple, axis: int, value) -> tuple:
  return (*values[:axis], value, *values[axis + 1 :])


def resolve(
  size: Sequence[int],
  window: Sequence[int],
  strides: Sequence[int],
  padding: Padding,
  dilation: Sequence[int] | None = None,
) -> Pads:
  """The padding before and after each axis, after checking that the window fits.

  Args:
    size: of the input along the windowed axes, the last of which are height and width.
    window: positions that one output sees along each axis.
    strides: positions between neighbouring outputs.
    padding: "SAME" (ceil(size / stride) outputs, the odd position goes behind, as in XLA and TensorFlow), "VALID"
      (none), one number per axis (both sides, as in torch), or a pair (before, after) per axis.
    dilation: positions between neighbouring window elements; 1 everywhere when left out.

  Raises:
    ValueError: counts that do not match, a number below 1, a negative padding, or a window that is larger than the
      padded input; the message names both numbers.
  """
  names, n = AXES[-len(size) :], len(size)
  dilation = tuple(dilation or (1,) * n)
  for what, values in (("window", window), ("strides", strides), ("dilation", dilation)):
    if len(values) != n:
      raise ValueError(f"{what} {tuple(values)} has {len(values)} numbers for {n} axes ({', '.join(names)})")
    if min(values) < 1:
      raise ValueError(f"{what} {tuple(values)}: must be at least 1 along every axis")
  spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
  if isinstance(padding, str):
    return _named(padding, size, spans, strides, names)
  if len(padding) != n:
    raise ValueError(f"padding {tuple(padding)} has {len(padding)} entries for {n} axes ({', '.join(names)})")
  pads = tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding)
  for pair in pads:
    if min(pair) < 0:
      raise ValueError(f"padding {pads}: must not be negative, crop the input instead")
  _check_fit(size, spans, pads, names)
  return pads


def _named(padding: str, size: Sequence[int], spans: Sequence[int], strides: Sequence[int], names) -> Pads:
  if padding == "VALID":
    pads: Pads = ((0, 0),) * len(size)
    _check_fit(size, spans, pads, names)
    return pads
  if padding != "SAME":
    raise ValueError(f'padding "{padding}": must be "SAME", "VALID", one number or one pair per axis')
  totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, spans, strides, strict=True)]
  return tuple((total // 2, total - total // 2) for total in totals)


def _check_fit(size: Sequence[int], spans: Sequence[int], pads: Pads, names: Sequence[str]) -> None:
  for name, n, span, (low, high) in zip(names, size, spans, pads, strict=True):
    if span > n + low + high:
      raise ValueError(f"the window spans {span} positions of {name}, the padded input has only {n + low + high}")


def output_size(
  size: Sequence[int], window: Sequence[int], strides: Sequence[int], pads: Pads, dilation: Sequence[int] | None = None
) -> tuple[int, ...]:
  """Outputs along each axis: floor((padded size - span) / stride) + 1."""
  spans = [(k - 1) * d + 1 for k, d in zip(window, dilation or (1,) * len(size), strict=True)]
  return tuple((n + sum(p) - k) // s + 1 for n, k, s, p in zip(size, spans, strides, pads, strict=True))
