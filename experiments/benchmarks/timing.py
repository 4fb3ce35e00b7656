"""How things are timed: contenders in turns, medians and spread."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from vu_jax.cost import peak_bytes

Pass: TypeAlias = Literal["forward", "gradient", "train", "read"]

SLOW_S = 10.0  # a call this long is timed once
SHORT_S = 0.01  # calls shorter than this are timed several in a row, after one that is not timed
ROUNDS = (3, 25)


class AbsentError(Exception):
  """A contender that cannot take part here; the message says why."""


@dataclass(frozen=True)
class Contender:
  """One way to do the work of a row, ready to be called.

  Fields:
    start: does the work, or on an accelerator only starts it, and returns its result.
    wait: returns when a result of `start` is there.
    read: a result as numpy arrays, in the same order and layout for all contenders of a row.
    form: which of its own variants this is, such as a lowering or a memory format.
    compile_s: what it took to compile [s].
    peak_bytes: of memory, arguments and results included, where the compiler tells it; else 0.
  """

  start: Callable[[], Any]
  wait: Callable[[Any], Any]
  read: Callable[[Any], list[np.ndarray]]
  form: str = ""
  compile_s: float = 0.0
  peak_bytes: int = 0


@dataclass(frozen=True)
class Options:
  """What the user asks of a suite.

  Fields:
    dtypes: that every row is measured in.
    lowerings: also measure every lowering that applies, not only the chosen one.
    torch_compile: also give torch its compiler.
    videos: folder of class folders with the videos of a sweep; None = drawn ones.
  """

  dtypes: Sequence[str] = ("float32",)
  lowerings: bool = False
  torch_compile: bool = False
  videos: pathlib.Path | None = None


@dataclass(frozen=True)
class Row:
  """One row of a benchmark: work that several contenders do.

  Fields:
    name, kind: of the work; tables are grouped by kind.
    pass_: forward, forward and gradient, train (a whole step), or read (of clips).
    flops: counts those of the pass; a multiply-add is two. 0 where the work is not arithmetic.
    tolerance: largest relative error between contenders that counts as the same result.
    contenders: called when the row's turn comes; name -> how to make it, which may raise. "ours" comes first, then
      baseline and peers, then "lowering NAME".
    peers: the contenders that are to be beaten; the fastest of them counts.
    baseline: the contender that shows what is gained or possible: the obvious way, or a limit.
  """

  name: str
  kind: str
  pass_: Pass
  dtype: str
  shapes: dict[str, tuple[int, ...]]
  flops: Callable[[], float]
  tolerance: float
  contenders: Callable[[], Mapping[str, Callable[[], Contender]]]
  peers: tuple[str, ...] = ("torch",)
  baseline: str = "xla"


@dataclass(frozen=True)
class Entrant:
  """A contender that has been called twice: what the second call took [s], and what it gave."""

  contender: Contender
  call_s: float
  outputs: list[np.ndarray]


@dataclass(frozen=True)
class Timing:
  """Durations of single calls [s]."""

  samples_s: tuple[float, ...]

  @property
  def median_s(self) -> float:
    return float(np.median(self.samples_s))

  @property
  def spread_s(self) -> float:
    """Distance between the quartiles."""
    low, high = np.percentile(self.samples_s, (25, 75))
    return float(high - low)


Clock: TypeAlias = Callable[[], float]


def enter(make: Callable[[], Contender], clock: Clock = time.perf_counter) -> Entrant:
  """Makes a contender and calls it twice: the first call also waits for memory that was never used before."""
  contender = make()
  _, result = timed_call(contender, 1, clock)
  call_s, _ = timed_call(contender, 1, clock)
  return Entrant(contender, call_s, contender.read(result))


def measure(entrants: Mapping[str, Entrant], seconds: float, clock: Clock = time.perf_counter) -> dict[str, Timing]:
  """Calls all entrants in turns, so that what else the machine does meets them alike.

  Each is timed until its calls took `seconds` in all, within `ROUNDS`; the one that starts a round changes. A second
  call of more than `SLOW_S` is the only timing of its contender. Short calls first get the caches and threads back from
  the entrant before, which matters: a convolution of 1.1 ms took 1.7 ms when it was timed right after others, and 6 ms
  after a pause of 20 ms.
  """
  samples: dict[str, list[float]] = {n: [e.call_s] if e.call_s > SLOW_S else [] for n, e in entrants.items()}
  repeat = {name: max(1, math.ceil(SHORT_S / max(e.call_s, 1e-6))) for name, e in entrants.items()}
  todo = [name for name, found in samples.items() if not found]
  while todo:
    for name in todo:
      if repeat[name] > 1:
        timed_call(entrants[name].contender, 1, clock)
      samples[name].append(timed_call(entrants[name].contender, repeat[name], clock)[0])
    todo = [name for name in [*todo[1:], todo[0]] if not _enough(samples[name], repeat[name], seconds)]
  return {name: Timing(tuple(found)) for name, found in samples.items()}


def _enough(samples: list[float], repeat: int, seconds: float) -> bool:
  fewest, most = ROUNDS
  return len(samples) >= most or (len(samples) >= fewest and sum(samples) * repeat >= seconds)


def timed_call(contender: Contender, repeat: int, clock: Clock = time.perf_counter) -> tuple[float, Any]:
  """Seconds per call of `repeat` calls in a row, and the last result."""
  begun = clock()
  for _ in range(repeat):
    result = contender.start()
  contender.wait(result)
  return (clock() - begun) / repeat, result


def jax_contender(function: Callable[..., Any], arguments: tuple[Any, ...], form: str = "") -> Contender:
  """A jitted function of fixed arrays, compiled; its result's leaves are what is compared."""
  begun = time.perf_counter()
  compiled = jax.jit(function).lower(*arguments).compile()
  compile_s = time.perf_counter() - begun

  def start() -> Any:
    return compiled(*arguments)

  def start_and_wait() -> Any:
    return jax.block_until_ready(compiled(*arguments))

  # On the CPU, calls in a row would run side by side.
  begin = start_and_wait if jax.default_backend() == "cpu" else start
  return Contender(begin, jax.block_until_ready, read_leaves, form, compile_s, peak_bytes(compiled))


def read_leaves(result: Any) -> list[np.ndarray]:
  """The arrays of a result on the host, in float32."""
  return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(result)]


def matmul_peak(dtype: str) -> float:
  """Floating-point operations per second of a large matrix product [1/s]: the best of several calls."""
  side = 2048 if jax.default_backend() == "cpu" else 8192
  one, other = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
  contender = jax_contender(jnp.matmul, (one, other))
  timing = measure({"matmul": enter(lambda: contender)}, seconds=1.0)["matmul"]
  return 2 * side**3 / min(timing.samples_s)
