"""ORDER: which example stands at which position of the training stream, as pure functions of (seed, position).

Nothing is kept between positions, so a stream can be entered anywhere: its whole state is the position, and hosts,
threads and processes may each compute their own part of it.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, TypeAlias

import numpy as np
from grain.experimental import index_shuffle
from jaxtyping import Int

from vu_jax.errors import UserError

Order: TypeAlias = Callable[[int], int]  # position, >= 0 -> index of the example
Rule: TypeAlias = Literal["shuffle", "balanced", "classes_by_clips"]
Groups: TypeAlias = Sequence[np.ndarray]  # the indices of each class, none empty
_SMALL = 5000  # entries whose permutation is cheap to draw and to keep


@dataclass(frozen=True)
class Stream:
  """An order as an endless random-access source for Grain."""

  order: Order

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, position: int) -> int:
    return self.order(position)


def shuffled(position: int, size: int, *key: int) -> int:
  """The entry in 0..size-1 at a position of an endless row of epochs; each holds every entry once, in a new order."""
  epoch, place = divmod(position, size)
  if size <= _SMALL:
    return int(_permutation(size, (*key, epoch))[place])
  # Computes one place alone, so nothing of the set's length is ever held; for small sets it takes milliseconds.
  seed = int(np.random.SeedSequence((*key, epoch)).generate_state(1)[0])
  return int(index_shuffle(place, max_index=size - 1, seed=seed, rounds=4))


@lru_cache(maxsize=2048)
def _permutation(size: int, key: tuple[int, ...]) -> np.ndarray:
  return np.random.default_rng(key).permutation(size)


def groups_of(labels: Int[np.ndarray, " N"], pool: Int[np.ndarray, " n"]) -> Groups:
  """The indices in the pool by class; classes without any are left out."""
  return [pool[labels[pool] == y] for y in np.unique(labels[pool])]


def uniform(pool: np.ndarray, seed: int, position: int) -> int:
  """Each example of the pool once per epoch."""
  return int(pool[shuffled(position, len(pool), seed)])


def balanced(groups: Groups, seed: int, position: int) -> int:
  """Each class once per round of all classes, and each clip of a class once before any comes again.

  So every class is drawn equally often, and within a class every clip, whatever the sizes of the classes.
  """
  y = shuffled(position, len(groups), seed, 0)
  draw = position // len(groups)  # how often this class has been drawn before
  return int(groups[y][shuffled(draw, len(groups[y]), seed, 1, y)])


def classes_by_clips(groups: Groups, classes: int, clips: int, seed: int, position: int) -> int:
  """Batches of P different classes with K clips of each, as losses over pairs and triplets need them.

  A round goes through all classes in a new order, P per batch; where P does not divide their number, the classes left
  over sit this round out. The K clips of a class are different ones, and all its clips are used before any comes
  again, but for a rest of fewer than K. A class of fewer than K clips repeats its own, each equally often or once more
  (sampling with replacement).

  Args:
    groups: the indices of each class, at least P classes.
    classes: P. clips: K.
    seed: of the order.
    position: in the stream; batch b is at P K b .. P K (b + 1) - 1.
  """
  batch, inside = divmod(position, classes * clips)
  slot, clip = divmod(inside, clips)
  turn, step = divmod(batch, len(groups) // classes)
  y = shuffled(turn * len(groups) + step * classes + slot, len(groups), seed, 0)
  size = len(groups[y])
  if size < clips:
    return int(groups[y][shuffled(turn * size + clip % size, size, seed, 1, y)])
  epoch, part = divmod(turn, size // clips)
  return int(groups[y][shuffled(epoch * size + part * clips + clip, size, seed, 1, y)])


def mixture(lengths: Sequence[int], weights: Sequence[float], seed: int, position: int) -> int:
  """Several sources in fixed shares: the index in their concatenation.

  Shares are kept exactly in every block of up to 1,000 positions, to which they are rounded; each source goes through
  epochs of its own.

  Args:
    lengths: of the sources, >= 1. weights: their shares, >= 0, of any sum.
    seed: of the order.
    position: in the stream.
  """
  counts = block_counts(weights)
  ends = np.cumsum(counts)
  block = position // int(ends[-1])
  slot = shuffled(position, int(ends[-1]), seed, 0)
  source = int(np.searchsorted(ends, slot, side="right"))
  draw = block * counts[source] + slot - int(ends[source] - counts[source])
  return sum(lengths[:source]) + shuffled(draw, lengths[source], seed, 1, source)


def block_counts(weights: Sequence[float]) -> list[int]:
  """Shares as the smallest whole numbers, after rounding to thousandths (largest remainders get what is left).

  Raises:
    UserError: a weight is negative, all are 0, or one is so small that its source would never come.
  """
  total = math.fsum(weights)
  if min(weights) < 0 or total <= 0:
    raise UserError(f"weights = {tuple(weights)}: must be at least 0, and one of them above 0")
  exact = [1000 * w / total for w in weights]
  counts = [math.floor(e + 1e-9) for e in exact]
  rest = sorted(range(len(weights)), key=lambda i: counts[i] - exact[i])
  for i in rest[: 1000 - sum(counts)]:
    counts[i] += 1
  if any(w > 0 and not c for w, c in zip(weights, counts, strict=True)):
    raise UserError(f"weights = {tuple(weights)}: a share below one in a thousand would never be drawn")
  divisor = math.gcd(*counts)
  return [c // divisor for c in counts]


def subset(
  labels: Int[np.ndarray, " N"], per_class: int, fraction: float, seed: int, names: Sequence[str] = ()
) -> Int[np.ndarray, " n"]:
  """Some examples of each class, in order; a smaller subset with the same seed lies inside of every larger one.

  Args:
    labels: of all examples.
    per_class: examples of each class; 0 = all.
    fraction: of each class, in (0, 1], rounded up, so that no class is lost.
    seed: of the choice.
    names: of the classes, for messages.

  Raises:
    UserError: a class has fewer than `per_class` examples.
  """
  chosen = []
  for y in np.unique(labels):
    members = np.flatnonzero(labels == y)
    if len(members) < per_class:
      name = names[y] if y < len(names) else str(y)
      raise UserError(
        f'config.loader.subset_per_class = {per_class}: class "{name}" has only {len(members)} training clips'
      )
    count = per_class or math.ceil(fraction * len(members) - 1e-9)
    chosen.append(np.random.default_rng((seed, int(y))).permutation(members)[:count])
  return np.sort(np.concatenate(chosen))


def choose_order(
  rule: Rule, labels: np.ndarray, pool: np.ndarray, batch_size: int, clips_per_class: int, seed: int
) -> Order:
  """The order of a rule over the examples in the pool.

  Raises:
    UserError: there are fewer classes than a batch of "classes_by_clips" holds.
  """
  if rule == "shuffle":
    return partial(uniform, pool, seed)
  groups = groups_of(labels, pool)
  if rule == "balanced":
    return partial(balanced, groups, seed)
  classes = batch_size // clips_per_class
  if len(groups) < classes:
    raise UserError(
      f"config.loader.batch_size = {batch_size}: {clips_per_class} clips per class (clips_per_class) need {classes} "
      f"classes, but there are {len(groups)}"
    )
  return partial(classes_by_clips, groups, classes, clips_per_class, seed)
