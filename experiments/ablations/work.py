"""Trains the groups of an ablation, one after the other, beside whoever else works on it."""

import contextlib
import pathlib
import time
import traceback
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from experiments.ablations.plan import Plan
from experiments.groups.train import train_group
from experiments.progress import progress_lines
from vu_jax.data.claims import Claims
from vu_jax.errors import UserError
from vu_jax.report.headline import duration
from vu_jax.train.signals import Interrupted

_LOOK_AGAIN_S = 1.0


def work(plan: Plan, claims: Claims, data_dir: pathlib.Path, screen: Console) -> None:
  """Returns when all groups have ended, here or elsewhere. A group that failed as a whole earlier is tried again.

  Raises:
    Interrupted: asked to stop; the group at hand is saved.
  """
  failed = {group: end for group in plan.groups if (end := plan.ended(group)) and end["as_a_whole"]}

  def is_open(group: str) -> bool:
    end = plan.ended(group)
    return end is None or end == failed.get(group)

  waiting = progress_lines(lambda text: screen.print(text, markup=False), "waiting for other processes", "groups")
  while to_do := [group for group in plan.groups if is_open(group)]:
    taken = next((group for group in to_do if claims.take(number(group))), None)
    if taken is None:
      waiting(len(plan.groups) - len(to_do), len(plan.groups))
      time.sleep(_LOOK_AGAIN_S)
      continue
    with contextlib.ExitStack() as ending:
      ending.callback(claims.release, number(taken))
      if is_open(taken):  # it may have ended between looking and taking
        screen.print(status(plan, claims, taken), markup=False)
        _train(plan, taken, data_dir, screen)


def number(group: str) -> int:
  """Of its claim."""
  return int(pathlib.Path(group).name)


def status(plan: Plan, claims: Claims, mine: str) -> str:
  """Such as "runs  6 of 18 done, 3 running, 0 failed, about 12 min left": of all processes."""
  ends = {group: None if group == mine else plan.ended(group) for group in plan.groups}
  runs = [run for end in ends.values() if end for run in end["runs"].values()]
  failed = sum(run["state"] == "failed" for run in runs)
  busy = [group for group, end in ends.items() if end is None and (group == mine or not _is_free(claims, group))]
  running = sum(len(plan.groups[group]) for group in busy)
  total = sum(map(len, plan.groups.values()))
  left = _seconds_left(plan, ends, len(busy))
  about = f", about {duration(left)} left" if left is not None else ""
  return f"{'runs':>9}  {len(runs) - failed} of {total} done, {running} running, {failed} failed{about}"


def _is_free(claims: Claims, group: str) -> bool:
  free = claims.take(number(group))
  if free:
    claims.release(number(group))
  return free


def _seconds_left(plan: Plan, ends: Mapping[str, Any], workers: int) -> float | None:
  """As if all runs took as long as those that have ended; None before any has."""
  timed = [(end["seconds"], len(end["runs"])) for end in ends.values() if end and not end["as_a_whole"]]
  if not timed:
    return None
  left = sum(len(plan.groups[group]) for group, end in ends.items() if end is None)
  return left * sum(s for s, _ in timed) / sum(n for _, n in timed) / max(workers, 1)


def _train(plan: Plan, group: str, data_dir: pathlib.Path, screen: Console) -> None:
  """A group, to its end. Whatever is wrong with it is written down; only what is wrong with the machine goes on."""
  start = time.perf_counter()
  try:
    outcomes = train_group(plan.members(group), plan.directory / group, data_dir, screen)
  except (Interrupted, OSError):
    raise
  except UserError as error:
    _failed(plan, group, str(error), screen)
  except Exception as error:  # a defect in one variant, perhaps in a module of the user's own, must not stop the others
    file = plan.directory / f"{group}.traceback"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(traceback.format_exc())
    said = str(error).strip().splitlines()
    _failed(plan, group, f"{type(error).__name__}: {said[0] if said else ''} (see {file})", screen)
  else:
    plan.end(group, outcomes, time.perf_counter() - start)


def _failed(plan: Plan, group: str, reason: str, screen: Console) -> None:
  reason = " ".join(reason.split())
  plan.fail(group, reason)
  names = ", ".join(plan.record["groups"][group])
  screen.print(f"failed: {names}: {reason}", markup=False, soft_wrap=True)
