"""Which sweep a directory holds: sweep.json, written when it begins."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from experiments.sweeps.plan import Plan
from vu_jax.checkpoint.workdir import MAY_CHANGE
from vu_jax.config import diff, plain
from vu_jax.errors import UserError

FILE = "sweep.json"
_MAY_CHANGE = tuple(f"config.{key}" for key in MAY_CHANGE)


def identity(plan: Plan) -> dict[str, Any]:
  """What makes a sweep this one; samplers, pruners and numbers of trials may change on the way."""
  return json.loads(
    json.dumps(
      {
        "config": plain(plan.resolved),
        "space": {key: parameter.record() for key, parameter in plan.space.items()},
        "objective": dataclasses.asdict(plan.objective),
      }
    )
  )


def check_directory(plan: Plan) -> str:
  """The name of the study in the directory; "" where none has begun.

  Raises:
    UserError: it holds another sweep; the message says what differs.
  """
  try:
    found = json.loads((plan.directory / FILE).read_text())
  except FileNotFoundError:
    return ""
  ours = identity(plan)
  changed = {k: v for k, v in diff(_told_apart(found), _told_apart(ours)).items() if not k.startswith(_MAY_CHANGE)}
  if changed:
    shown = ", ".join(
      f"{k.replace('|', '.')}: {old!r} there, {new!r} here" for k, (old, new) in list(changed.items())[:3]
    )
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise UserError(
      f"{plan.directory} holds another sweep ({shown}{more}): choose another --workdir, or delete that one"
    )
  return str(found["study"])


def _told_apart(about: Mapping[str, Any]) -> dict[str, Any]:
  """For `diff`: a parameter is one value."""
  space = {key.replace(".", "|"): _shown(record) for key, record in about["space"].items()}
  return {"config": about["config"], "vary": space, "objective": about["objective"]}


def _shown(record: Mapping[str, Any]) -> str:
  limits = record.get("choices", [record.get("low"), record.get("high")])
  when = "".join(f" when {k} = {v}" for k, v in record["when"].items())
  return f"{record['kind']}({', '.join(map(str, limits))}){when}"
