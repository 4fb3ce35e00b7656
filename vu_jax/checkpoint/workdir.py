"""The run directory, and whose it is."""

import json
import pathlib
from typing import Any

from vu_jax.config import diff
from vu_jax.disk import write_text
from vu_jax.errors import UserError

# Keys of a config that say how, not what: a run may continue with other values.
MAY_CHANGE = ("mesh.", "train.keep", "train.writers", "train.profile_steps", "loader.threads", "loader.prefetch")


def check_workdir(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
  """Accepts a run directory that is new, empty, or holds a run of the same config, whatever devices it is run on.

  Raises:
    UserError: it holds another run (the message says which values differ), or something else.
  """
  path = workdir / "config.json"
  if path.exists():
    changed = {k: v for k, v in diff(json.loads(path.read_text()), resolved).items() if not k.startswith(MAY_CHANGE)}
    if changed:
      shown = ", ".join(f"{k}: {old!r} there, {new!r} here" for k, (old, new) in list(changed.items())[:4])
      more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
      raise UserError(f"{workdir} holds another run ({shown}{more}): choose another --workdir, or delete that one")
  elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
    raise UserError(f"{workdir} exists and is not a run directory: choose another --workdir")


def claim_workdir(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
  """Makes the run directory and writes config.json into it; raises as `check_workdir`."""
  check_workdir(workdir, resolved)
  workdir.mkdir(parents=True, exist_ok=True)
  write_text(workdir / "config.json", json.dumps(resolved, indent=2))
