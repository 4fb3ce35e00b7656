"""The checkpoints of one run.

What if we die while saving? Orbax writes to a folder with a temporary name and renames it when it is complete, so
there is always either the old or the new checkpoint. State and data position are items of the same checkpoint: they
cannot come from different steps. Beside them lies `about`, JSON that says what the checkpoint is of.

Nothing is unpickled: arrays are TensorStore's, everything else is JSON.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vu_jax.checkpoint.contents import arrays, check_arrays, read_about
from vu_jax.checkpoint.quiet import hush_orbax
from vu_jax.checkpoint.scores import Best, kept, read_scores, write_scores
from vu_jax.checkpoint.seals import Sealer, broken_seal
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero
from vu_jax.hosts import anywhere

FOLDER, DAMAGED = "checkpoints", "damaged_checkpoints"
PREFIX = "step"
# What a full, read-only or forbidden disk is called by the system, TensorStore and Orbax.
_DISK = ("No space left", "Read-only file system", "Permission denied", "quota exceeded", "File too large", "EFBIG")


class Checkpoints:
  """The newest and the best checkpoints of one run; saved in the background, restored exactly."""

  def __init__(
    self,
    workdir: pathlib.Path,
    keep: Count = 2,
    keep_best: CountOrZero = 1,
    best: Best = Best(),
    about: Mapping[str, Any] = {},
    say: Callable[[str], None] = print,
    read_only: bool = False,
  ):
    """Opens, or makes, those of a run directory.

    Args:
      keep: so many of the newest. keep_best: and so many of those that were evaluated. best: by this.
      about: what every checkpoint is to say of its run: config, labels, provenance; for JSON.
      say: is told about damaged ones.
      read_only: nothing on disk is changed.
    """
    self.folder = (workdir / FOLDER).absolute()
    self.scores: dict[int, dict[str, float]] = read_scores(self.folder)
    self.best = best
    self.progress: dict[str, Any] = {}  # what `save` was given beside the state that was restored last
    self._keep, self._keep_best, self._about, self._say = keep, keep_best, dict(about), say
    self._read_only = read_only
    self._sealer = Sealer()
    hush_orbax()
    options = ocp.CheckpointManagerOptions(
      preservation_policy=_Policy(self.kept), step_prefix=PREFIX, read_only=read_only
    )
    self._manager = ocp.CheckpointManager(self.folder, options=options)

  def steps(self) -> list[int]:
    """Of all checkpoints, that in the making included."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """Step of the newest one."""
    return self.steps()[-1] if self.steps() else None

  def kept(self, steps: Sequence[int]) -> set[int]:
    """Which of these steps' checkpoints stay."""
    return kept(steps, self.scores, self.best, self._keep, self._keep_best)

  def save(self, step: int, state: Any, batches: Any, progress: Mapping[str, Any] | None = None) -> None:
    """Starts saving; returns as soon as the state is copied, so that training may go on and donate it.

    Args:
      step: updates made. state: pytree of arrays.
      batches: the data iterator, standing behind batch `step`. Hosts stand at the same place, so one position does.
      progress: what else is needed to go on, for JSON.

    Raises:
      UserError: the disk is full or may not be written to.
    """
    if step in self.steps():
      return
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      about=ocp.args.JsonSave({**self._about, "step": step, "arrays": arrays(state)}),
      progress=ocp.args.JsonSave({"data": batches.get_state(), **(progress or {})}),
    )
    with self._told():
      if not self._manager.save(step, args=items):
        raise RuntimeError(f"Orbax refused to save step {step}; the newest is {self.latest()}")
    if jax.process_index() == 0:
      self._sealer.seal(self.folder / f"{PREFIX}_{step}")

  def score(self, step: int, figures: Mapping[str, Any]) -> None:
    """Records the evaluation at a step, of a population its means; it says which checkpoints are the best."""
    found = {name: float(np.nanmean(figure)) for name, figure in figures.items()}  # nan: a member that has ended
    self.best.name(found)
    self.scores[step] = found
    if jax.process_index() == 0 and not self._read_only:
      with self._told():
        write_scores(self.folder, self.scores)

  def restore(self, state: Any, batches: Any | None = None) -> Any:
    """The newest state that can be read, on the shardings of `state`; `progress` and `scores` are those of then.

    Damaged checkpoints are passed over with a warning; of several hosts all do so if one of them finds damage before
    reading. If there is a whole one, and the run is to go on, they are moved to `damaged_checkpoints`; nothing is
    deleted.

    Args:
      state: arrays or shapes (with shardings) of the state.
      batches: the data iterator, which is moved to the saved position; None reads the state only.

    Raises:
      UserError: the checkpoint is of another network, or none can be read.
    """
    damaged = []
    for step in reversed(self.steps()):
      try:
        self._check(step, state)
        restored = self._read(step, state, batches)
      except (UserError, MemoryError, PermissionError, jax.errors.JaxRuntimeError):
        raise
      except Exception as error:  # those of TensorStore, Orbax and JSON have nothing in common
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        self._say(f"warning: {self.folder}/{PREFIX}_{step} is damaged and is passed over ({reason})")
        damaged.append(step)
      else:
        self._set_aside(damaged)
        return restored
    raise UserError(
      f"{self.folder}: no checkpoint can be read (tried those of steps {', '.join(map(str, damaged))}; nothing was "
      "deleted): bring one back from a copy, or start anew with another --workdir"
    )

  def wait(self) -> None:
    """Until the save in flight is whole; errors of the background writer surface here."""
    with self._told():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and removes what need not stay."""
    try:
      self.wait()
      if not self._read_only:
        for step in set(self.steps()) - self.kept(self.steps()):
          self._manager.delete(step)
    finally:
      self._sealer.close()
      self._manager.close()

  def _check(self, step: int, state: Any) -> None:
    """Raises UserError if the checkpoint is of another network, ValueError if any host finds it damaged."""
    folder = self.folder / f"{PREFIX}_{step}"
    try:
      about, broken = read_about(folder), broken_seal(folder)
      damage = f"{broken} is not as it was written" if broken else ""
    except (OSError, ValueError) as error:
      about, damage = {}, str(error) or type(error).__name__
    if not anywhere(bool(damage)):
      return check_arrays(about["arrays"], arrays(state), folder)
    raise ValueError(damage or "another host finds it damaged")

  def _read(self, step: int, state: Any, batches: Any | None) -> Any:
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    items = ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore())
    found = self._manager.restore(step, args=items)
    self.progress = {k: v for k, v in found["progress"].items() if k != "data"}
    self.scores = {s: figures for s, figures in read_scores(self.folder).items() if s <= step}
    if batches is not None:
      batches.set_state(found["progress"]["data"])
    return found["state"]

  def _set_aside(self, steps: Sequence[int]) -> None:
    if not steps or self._read_only:
      return
    place = self.folder.with_name(DAMAGED)
    if jax.process_index() == 0:
      place.mkdir(exist_ok=True)
      for step in steps:
        taken = len(list(place.glob(f"{PREFIX}_{step}*")))
        (self.folder / f"{PREFIX}_{step}").rename(place / f"{PREFIX}_{step}{f'.{taken}' if taken else ''}")
    self._manager.reload()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    """Makes one line of what a disk says that cannot be written to."""
    try:
      yield
    except Exception as error:
      trouble = next((word for word in _DISK if word.lower() in f"{error!r} {error.__cause__!r}".lower()), "")
      if not trouble:
        raise
      whole = sorted(int(p.name.rpartition("_")[2]) for p in self.folder.glob(f"{PREFIX}_*") if p.name[5:].isdigit())
      last = f"the checkpoint of step {whole[-1]} is whole" if whole else "there is no checkpoint yet"
      raise UserError(
        f"{self.folder} cannot be written to: {trouble.lower()}; {last}: mend it, and the same command continues"
      ) from error


class _Policy(checkpoint_managers.PreservationPolicy):
  """Asks us which checkpoints stay."""

  def __init__(self, kept: Callable[[Sequence[int]], set[int]]):
    self._kept = kept

  def should_preserve(self, checkpoints: Any, *, context: Any) -> Sequence[bool]:
    del context
    stay = self._kept([c.step for c in checkpoints])
    return [c.step in stay for c in checkpoints]
