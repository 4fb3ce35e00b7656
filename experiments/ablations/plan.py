"""The directory of an ablation: which runs there are, which are trained together, and how they have ended.

A directory holds the union of all that was asked for in it, so more seeds or variants join those that are there.
"""

import json
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.ablations.variants import Variant, own, seeded
from experiments.groups.members import grouped
from experiments.groups.record import Outcome
from experiments.groups.train import Member
from experiments.running.assemble import Experiment, assemble, launch_command
from vu_jax.checkpoint.workdir import MAY_CHANGE
from vu_jax.config import diff, load
from vu_jax.disk import write_text
from vu_jax.errors import UserError
from vu_jax.glossary import Count
from vu_jax.report.ablation import FILE
from vu_jax.report.ablation_figures import MEND, outcome_file
from vu_jax.report.paired import Kind
from vu_jax.report.records import read_json


@dataclass(frozen=True)
class Wish:
  """What is asked for: the baseline first, seeds, and the size of populations.

  Fields:
    config: file of the baseline. typed: beside it. command: that asks. interval: of the table.
  """

  config: str
  typed: Mapping[str, str]
  command: str
  variants: Sequence[Variant]
  seeds: Sequence[int]
  size: Count
  interval: Kind

  def run(self, name: str, variant: Variant, seed: int) -> tuple[dict[str, Any], Experiment]:
    """The record of a run in an ablation of that name, and its experiment."""
    overrides, experiment = seeded(self.config, variant, seed)
    alone = launch_command(self.config, overrides, f"runs/{name}_{variant.folder}_seed{seed}")
    run = f"runs/{variant.folder}/seed{seed}"
    return {"seed": seed, "run": run, "command": alone, "overrides": overrides}, experiment


class Plan:
  """What ablation.json says, and the experiments of the runs that are asked for."""

  def __init__(self, directory: pathlib.Path, wish: Wish):
    """Joins what is there and what is asked for; nothing is written.

    Raises:
      UserError: the directory is that of another ablation, or of something else.
    """
    self.directory, self.wish = directory, wish
    self.record = self._begun()
    self._experiments: dict[str, Experiment] = {}
    self._asked: set[str] = set()
    for variant in wish.variants:
      self._add(variant)
    self.record["seeds"] = sorted({*self.record["seeds"], *wish.seeds})
    self.record |= {"command": wish.command, "interval": wish.interval}
    self._group()

  @property
  def groups(self) -> dict[str, list[str]]:
    """Folder -> runs, of the groups in which something was asked for."""
    return {group: runs for group, runs in self.record["groups"].items() if self._asked & {*runs}}

  def write(self) -> None:
    self.directory.mkdir(parents=True, exist_ok=True)
    write_text(self.directory / FILE, json.dumps(self.record, indent=1))

  def members(self, group: str) -> list[Member]:
    """Those of a group; runs that were asked for earlier, and not now, are assembled from their record."""
    known = {run["run"]: run["overrides"] for variant in self.record["variants"] for run in variant["runs"]}
    found = []
    for run in self.record["groups"][group]:
      if run not in self._experiments:
        self._experiments[run] = assemble(load(self.record["config"], known[run]))
      found.append(Member(self._experiments[run], self.directory / run))
    return found

  def ended(self, group: str) -> dict[str, Any] | None:
    """How a group has ended; None = not yet."""
    return read_json(outcome_file(self.directory, group), None, MEND)

  def end(self, group: str, outcomes: Iterable[Outcome], seconds: float) -> None:
    """Writes down how the runs of a group have ended."""
    said = [{"state": o.state, "reason": o.reason} for o in outcomes]
    self._write_end(group, dict(zip(self.record["groups"][group], said, strict=True)), seconds, False)

  def fail(self, group: str, reason: str) -> None:
    """Writes down that none of a group could be trained."""
    said = {run: {"state": "failed", "reason": reason} for run in self.record["groups"][group]}
    self._write_end(group, said, 0.0, True)

  def _write_end(self, group: str, runs: Mapping[str, Any], seconds: float, as_a_whole: bool) -> None:
    record = {"runs": runs, "as_a_whole": as_a_whole, "seconds": round(seconds, 1), "at": time.time()}
    file = outcome_file(self.directory, group)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(record, indent=1))

  def _begun(self) -> dict[str, Any]:
    """The record that is there, or a new one."""
    base, file = self.wish.variants[0], self.directory / FILE
    resolved = base.experiment.resolved()
    if not file.exists():
      check_free(self.directory)
      return {
        "name": self.directory.resolve().name,
        "config": self.wish.config,
        "overrides": dict(self.wish.typed),
        "metric": base.experiment.train.best_metric,
        "direction": base.experiment.train.best_direction,
        "eval_split": base.experiment.train.eval_split,
        "order_seed": base.experiment.order_seed,
        "seeds": [],
        "variants": [],
        "groups": {},
        "baseline": resolved,
      }
    record = read_json(file, {}, MEND)
    changed = {k: v for k, v in diff(record["baseline"], resolved).items() if not k.startswith(MAY_CHANGE)}
    if changed:
      shown = ", ".join(f"{k}: {old!r} there, {new!r} here" for k, (old, new) in list(changed.items())[:4])
      raise UserError(
        f"{self.directory} holds another ablation ({shown}): choose another --workdir, or delete that one"
      )
    return record

  def _add(self, variant: Variant) -> None:
    """Makes sure that the record has the variant, with all seeds."""
    changes = json.loads(json.dumps(variant.changes))
    entry = next((v for v in self.record["variants"] if v["name"] == variant.name), None)
    if entry is None:
      base = self.wish.variants[0]
      entry = {"name": variant.name, "changes": changes, "overrides": own(base, variant), "runs": []}
      self.record["variants"].append(entry)
    elif entry["changes"] != changes:
      raise UserError(
        f'{self.directory} holds a variant "{variant.name}" with other values: rename this one, or choose another '
        "--workdir"
      )
    there = {run["seed"] for run in entry["runs"]}
    for seed in self.wish.seeds:
      run, experiment = self.wish.run(self.record["name"], variant, seed)
      self._experiments[run["run"]] = experiment
      self._asked.add(run["run"])
      if seed not in there:
        entry["runs"].append(run)
    entry["runs"].sort(key=lambda run: run["seed"])

  def _group(self) -> None:
    """Puts the runs that are in no group into new ones.

    A group that could not be trained as a whole, such as for lack of memory, is undone if smaller ones are asked for.
    """
    groups = self.record["groups"]
    used = len(groups) and 1 + max(int(pathlib.Path(group).name) for group in groups)
    for group, runs in list(groups.items()):
      if len(runs) > self.wish.size and (self.ended(group) or {}).get("as_a_whole"):
        del groups[group]
    taken = {run for runs in groups.values() for run in runs}
    free = [run for run in self._experiments if run not in taken]
    for indices in grouped([self._experiments[run] for run in free], self.wish.size):
      groups[f"groups/{used:02d}"] = [free[i] for i in indices]
      used += 1


def check_free(directory: pathlib.Path) -> None:
  """Raises UserError if something else is in the way."""
  if directory.exists() and (not directory.is_dir() or {p.name for p in directory.iterdir()} - {CLAIMS}):
    raise UserError(f"{directory} exists and is not an ablation: choose another --workdir")


CLAIMS = "claims"  # file by which several processes share the work
