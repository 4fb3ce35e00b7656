"""QUARANTINE: training goes on without the examples that cannot be read, counts them, and says why.

A clip that fails is replaced by another one of its class; which one follows from the random numbers of its place in
the stream alone, not from when or where the failure was first seen. So a resumed run, which knows of the failure from
the start, makes the same batches. (Unless a clip was read in time and then not in time since the last checkpoint: what
a time-out strikes is chance.)
"""

import json
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vu_jax.errors import UserError

FILE = "quarantine.jsonl"
UNREADABLE = (OSError, ValueError, RuntimeError)  # of files, records and decoders; UserError is a ValueError


class Quarantine:
  """The examples that could not be read, in memory and in a file that later starts of the run honour.

  One line per failure: index, reason. Several processes may append to the file; each counts what all have found.
  """

  def __init__(self, path: pathlib.Path | None, num_examples: int, max_bad_frac: float):
    """`path`: the file, None = none. `max_bad_frac`: the share of `num_examples` above which the run stops."""
    self._path, self._num_examples, self._max_bad_frac = path, num_examples, max_bad_frac
    self._lock = threading.Lock()
    self._reasons = read_quarantine(path)

  def __reduce__(self) -> tuple[Any, ...]:
    return Quarantine, (self._path, self._num_examples, self._max_bad_frac)

  def __contains__(self, index: int) -> bool:
    return index in self._reasons

  def add(self, index: int, reason: str) -> None:
    """Notes a failure.

    Raises:
      UserError: it is one too many.
    """
    with self._lock:
      if index not in self._reasons and self._path is not None:
        with self._path.open("a") as file:
          file.write(json.dumps({"index": index, "reason": reason}) + "\n")
      self._reasons = {index: reason} | self._reasons | read_quarantine(self._path)
      bad = len(self._reasons)
    if bad > self._max_bad_frac * self._num_examples:
      raise UserError(
        f"{bad} of {self._num_examples} training clips cannot be read, more than config.loader.max_bad_frac = "
        f"{self._max_bad_frac:g} allows; the last one is {reason}"
      )


def read_quarantine(path: pathlib.Path | None) -> dict[int, str]:
  """Reasons by index; lines that a kill tore are passed over."""
  found: dict[int, str] = {}
  if path is None or not path.is_file():
    return found
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
      found[int(row["index"])] = str(row["reason"])
    except (json.JSONDecodeError, TypeError, KeyError):
      continue
  return found


def load_or_replace(
  load: Callable[[int, np.random.Generator], Any],
  quarantine: Quarantine,
  pools: Callable[[int], Sequence[np.ndarray]],
  index: int,
  rng: np.random.Generator,
) -> Any:
  """Loads an example, or another one in its place.

  Args:
    load: of one example; raises what is `UNREADABLE`.
    quarantine: of the run.
    pools: index -> where a substitute is taken from: all of the first, in random order, then of the second.
    index: of the example.
    rng: of its place in the stream.

  Raises:
    UserError: too many examples have failed.
  """
  fresh = rng.bit_generator.state
  if (found := _tried(load, quarantine, index, rng)) is not None:
    return found
  rng.bit_generator.state = fresh  # however much of it a failed attempt has drawn
  key = int(rng.integers(2**63))
  for other in _candidates(pools(index), key):
    if (found := _tried(load, quarantine, other, np.random.default_rng((key, other)))) is not None:
      return found
  raise UserError("not one training clip can be read")


def _tried(load: Callable[..., Any], quarantine: Quarantine, index: int, rng: np.random.Generator) -> Any | None:
  if index in quarantine:
    return None
  try:
    return load(index, rng)
  except UNREADABLE as error:
    quarantine.add(index, " ".join(str(error).split()) or type(error).__name__)
  return None


def _candidates(pools: Sequence[np.ndarray], key: int) -> Iterator[int]:
  rng = np.random.default_rng(key)
  for pool in pools:
    yield from map(int, rng.permutation(pool))


def in_time(timeout_s: float, work: Callable[[], Any]) -> Any:
  """What `work` returns, if it does so in time.

  A thread cannot be stopped: one that hangs is left behind, with what it holds, until the process ends.

  Args:
    timeout_s: 0 = wait for ever, in this thread.
    work: anything.

  Raises:
    TimeoutError: it has not ended in time.
  """
  if not timeout_s:
    return work()
  box: list[tuple[bool, Any]] = []

  def run() -> None:
    try:
      box.append((True, work()))
    except BaseException as error:
      box.append((False, error))

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  thread.join(timeout_s)
  if not box:
    raise TimeoutError(f"not decoded within {timeout_s:g} s (config.loader.timeout_s)")
  done, value = box[0]
  if not done:
    raise value
  return value
