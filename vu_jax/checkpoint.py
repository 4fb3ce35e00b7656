"""CHECKPOINT: state and data position, written atomically by Orbax, and the run directory that they belong to.

What if we die while saving? Orbax writes to a folder with a temporary name and renames it when it is complete, so
there is always either the old or the new checkpoint. State and data position are items of the same checkpoint: they
cannot come from different steps.
"""

import json
import pathlib
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vu_jax.config import diff
from vu_jax.errors import UserError


class Checkpoints:
  """The checkpoints of one run: the newest `keep` and the best by the watched metric."""

  def __init__(self, workdir: pathlib.Path, keep: int = 2, best_metric: str = "top1"):
    policies = [checkpoint_managers.LatestN(keep)]
    policies.append(
      checkpoint_managers.BestN(get_metric_fn=lambda m: m[best_metric], n=1, keep_checkpoints_without_metrics=False)
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies), step_prefix="step"
    )
    self._manager = ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)

  def latest(self) -> int | None:
    """Step of the newest complete checkpoint."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, batches: Any, metrics: dict[str, float] | None) -> None:
    """Starts saving; returns as soon as the state is copied, so that training may go on and donate it.

    Args:
      step: updates made. state: pytree of arrays. batches: the Grain iterator, standing behind batch `step`.
      metrics: of the evaluation at this step, if there was one.
    """
    if step == self._manager.latest_step():
      return
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(batches))
    if not self._manager.save(step, args=items, metrics=metrics):
      raise RuntimeError(f"Orbax refused to save step {step}; the newest is {self._manager.latest_step()}")

  def restore(self, state: Any, batches: Any | None = None) -> Any:
    """The newest state, on the shardings of `state`; `batches` is moved to the saved position.

    Args:
      state: arrays or shapes (with shardings) of the state.
      batches: the Grain iterator to move; None reads the state only.
    """
    items: dict[str, Any] = {"state": ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state))}
    if batches is not None:
      items["data"] = grain.checkpoint.CheckpointRestore(batches)
    return self._manager.restore(self._manager.latest_step(), args=ocp.args.Composite(**items))["state"]

  def close(self) -> None:
    """Waits for the save in flight; errors of the background writer surface here."""
    self._manager.wait_until_finished()
    self._manager.close()


def check_workdir(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
  """Accepts a run directory that is new, empty, or holds a run of the same config.

  Raises:
    UserError: it holds another run (the message says which values differ), or something else.
  """
  path = workdir / "config.json"
  if path.exists():
    changed = diff(json.loads(path.read_text()), resolved)
    if changed:
      shown = ", ".join(f"{k}: {old!r} there, {new!r} here" for k, (old, new) in list(changed.items())[:4])
      more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
      raise UserError(f"{workdir} holds another run ({shown}{more}): choose another --workdir, or delete that one")
  elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
    raise UserError(f"{workdir} exists and is not a run directory: choose another --workdir")


def claim_workdir(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
  """Makes the run directory and writes config.json into it, whole or not at all; raises as `check_workdir`."""
  check_workdir(workdir, resolved)
  workdir.mkdir(parents=True, exist_ok=True)
  scratch = workdir / "config.json.tmp"
  scratch.write_text(json.dumps(resolved, indent=2))
  scratch.rename(workdir / "config.json")
