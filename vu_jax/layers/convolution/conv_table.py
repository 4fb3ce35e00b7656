"""Which lowering computes which convolution: the table, by backend and shape."""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vu_jax.layers.convolution.window import Window


@dataclass(frozen=True)
class Plan:
  """The lowerings of a convolution and of its two gradients, each of which is a convolution of its own kind."""

  forward: str
  input_gradient: str
  kernel_gradient: str


def throughout(lowering: str) -> Plan:
  """One lowering for all three."""
  return Plan(lowering, lowering, lowering)


_AS_WRITTEN = contextvars.ContextVar("as_written", default=False)


@contextlib.contextmanager
def as_written() -> Iterator[None]:
  """Inside, every convolution is traced as one convolution: for counting operations, not for computing."""
  token = _AS_WRITTEN.set(True)
  try:
    yield
  finally:
    _AS_WRITTEN.reset(token)


def choose(backend: str, shape: Sequence[int], kernel_shape: Sequence[int], window: Window) -> Plan:
  """The lowerings for an input of `shape` (B, *size, C).

  The table for the CPU was measured (2 cores with AVX-512, float32, jax 0.10.2 with `backend.fast_cpu`). That for other
  backends is a guess which nobody has measured: XLA's convolution, spared the windows of 1.
  """
  if _AS_WRITTEN.get():
    return throughout("xla")
  if window.groups > 1:
    depthwise = kernel_shape[-2] == 1 and backend != "tpu"
    return throughout("shift" if depthwise else "split" if backend == "cpu" else "xla")
  if backend != "cpu":
    return throughout("")
  time, *space = (1, *kernel_shape[:-2])[-3:]
  if max(space) == 1:
    back = "t:depth" if time > 1 and window.strides[0] > 1 and window.dilation[0] == 1 else ""
    return Plan("", back, back)
  table = _spatial if time == 1 else _full
  return table(math.prod(shape[:-1]), kernel_shape, window)


def _spatial(positions: int, kernel_shape: Sequence[int], window: Window) -> Plan:
  """Window (kh kw) or (1 kh kw), which is one 2-D convolution over all frames."""
  *_, channels, _ = kernel_shape
  if _three(kernel_shape[-4:-2], window) and channels >= 64 and positions >= 4 * channels:
    return Plan("h:winograd", "h:winograd", "")
  if not _strided(kernel_shape, window):
    return throughout("")
  if channels <= 4:  # a stem
    return Plan("h:depth w:depth", "h:depth w:unfold", "h:depth w:unfold")
  whole = all(k % s == 0 for k, s in zip(kernel_shape[-4:-2], window.strides[-2:], strict=True))
  return Plan("", "h:depth w:depth" if whole else "h:taps w:taps", "")


def _full(positions: int, kernel_shape: Sequence[int], window: Window) -> Plan:
  """Window (kt kh kw)."""
  kt, *_, channels, features = kernel_shape
  if _three(kernel_shape[:-2], window) and channels >= 64:
    if positions < 4 * channels:  # the kernel is larger than the video
      return Plan("t:unfold", "t:unfold h:unfold w:unfold", "t:spread")
    return Plan("t:winograd h:winograd", "t:winograd", "t:winograd h:winograd" if channels >= 128 else "t:taps")
  strided = _strided(kernel_shape, window)
  if channels <= 4:  # a stem
    step = "t:unfold" if kt * channels <= features else "t:spread"
    deep = f"{step} h:depth w:depth" if strided else step
    return Plan(step if features > 16 else deep, deep, deep)
  if not strided:
    return throughout("t:taps")
  back = "t:taps h:depth w:depth" if channels < 128 else "t:unfold h:unfold w:unfold"
  return Plan("t:taps", back, back)


def _three(sizes: Sequence[int], window: Window) -> bool:
  """Three taps everywhere, none left out between them or between outputs."""
  n = len(sizes)
  return set(sizes) == {3} and set(window.strides[-n:]) == set(window.dilation[-n:]) == {1}


def _strided(kernel_shape: Sequence[int], window: Window) -> bool:
  """Height and width both have a window that moves by more than one position."""
  return min(*kernel_shape[-4:-2], *window.strides[-2:]) > 1 and max(window.dilation) == 1
