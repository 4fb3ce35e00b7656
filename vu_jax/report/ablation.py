"""An ablation's directory -> what its table shows: per variant the score with its interval, the difference, the cost.

`ablation.json` lists what was asked for, `groups/NN.json` how the runs of a group ended, which were trained together,
and the run directories hold the figures. Any run may be missing, because an ablation may be stopped early.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from vu_jax.checkpoint.scores import Best
from vu_jax.errors import UserError
from vu_jax.report.ablation_figures import MEND, Figures, mean, read_ends, read_figures, right_answers, spread
from vu_jax.report.headline import is_fraction, value_range
from vu_jax.report.paired import Comparison, Interval, Kind, compare_answers, compare_seeds, holm
from vu_jax.report.records import read_json

FILE = "ablation.json"
BASELINE = "baseline"
State: TypeAlias = Literal["complete", "failed", "unfinished"]


@dataclass(frozen=True)
class SeedRun:
  """One run: a variant with one seed.

  Fields:
    directory: an ordinary run directory; it may not be there yet.
    score: the ablation's metric on its split; None unless the run is complete.
    reason: of a failure, one line.
    command: that repeats it alone.
    members: runs that were trained together with it, itself included; None where it was not trained yet.
  """

  seed: int
  directory: pathlib.Path
  state: State
  score: float | None
  reason: str
  command: str
  members: int | None


@dataclass(frozen=True)
class Variant:
  """What a row of the table shows; None where it is not known.

  Fields:
    changes: dotted key -> (value of the baseline, value here), of the resolved configs; None = it has no such key.
    runs: by seed.
    mean: over the complete runs. interval: 95 %, see `interval_kind`.
    interval_kind: such as "t, 3 seeds" or "Wilson, 400 clips" (of one seed); "" without an interval.
    difference: to the baseline, paired; None for the baseline itself, or where no seed has both.
    p_holm: its p value, corrected for the number of variants compared.
    parameters: trained values. gflop: of one clip forward, a multiply-add is two.
    clips_per_s: training clips per second, of all members of a population together; median over time, mean over seeds.
    seconds: training time of one run: that of its population shared evenly among the members; mean over seeds.
    peak_mib: memory at its largest, of the program that trained it.
  """

  name: str
  changes: Mapping[str, tuple[Any, Any]]
  runs: tuple[SeedRun, ...]
  mean: float | None
  interval: Interval | None
  interval_kind: str
  difference: Comparison | None
  p_holm: float | None
  parameters: int | None
  gflop: float | None
  clips_per_s: float | None
  seconds: float | None
  peak_mib: float | None

  @property
  def scores(self) -> dict[int, float]:
    """seed -> score of the complete runs."""
    return {run.seed: run.score for run in self.runs if run.score is not None}

  @property
  def failed(self) -> dict[int, str]:
    """seed -> reason of the failed runs."""
    return {run.seed: run.reason for run in self.runs if run.state == "failed"}


@dataclass(frozen=True)
class Ablation:
  """An ablation as far as it is done.

  Fields:
    directory, name: of the ablation. config: file of the baseline. command: that made it, and continues it.
    overrides: what was typed beside the config.
    seeds: all that were asked for.
    metric: such as "top1". split: whose figures these are; "" while no run is complete.
    lower_is_better: of the metric.
    is_fraction: whether the metric is a share of clips, 0..1.
    variants: the baseline first, then in the order in which they were named.
    notes: sentences that belong under the table.
  """

  directory: pathlib.Path
  name: str
  config: str
  command: str
  overrides: Mapping[str, str]
  seeds: tuple[int, ...]
  metric: str
  split: str
  lower_is_better: bool
  is_fraction: bool
  variants: tuple[Variant, ...]
  notes: tuple[str, ...]

  @property
  def baseline(self) -> Variant:
    return self.variants[0]


def load_ablation(directory: pathlib.Path) -> Ablation:
  """Reads an ablation, done or not.

  Raises:
    UserError: the directory holds none, or its records are damaged.
  """
  if not (directory / FILE).is_file():
    raise UserError(f"{directory} holds no ablation: {FILE} is missing; give the --workdir of an ablation")
  plan = read_json(directory / FILE, {}, MEND)
  best, kind = Best(plan["metric"], plan["direction"]), plan["interval"]
  figures = read_figures(directory, plan["groups"], ("test", plan["eval_split"]))
  first = next(iter(figures.values()), None)
  metric, split = (best.name(first.scores), first.split) if first else (plan["metric"], "")
  ends = read_ends(directory, plan["groups"])
  rows = [_variant(directory, entry, ends, figures, metric, kind) for entry in plan["variants"]]
  differences = [None, *(_difference(row, rows[0], split, metric, kind) for row in rows[1:])]
  corrected = holm([found.p if found else None for found in differences])
  variants = tuple(
    dataclasses.replace(row, difference=found, p_holm=p)
    for row, found, p in zip(rows, differences, corrected, strict=True)
  )
  return Ablation(
    directory=directory,
    name=plan["name"],
    config=plan["config"],
    command=plan["command"],
    overrides=plan["overrides"],
    seeds=tuple(plan["seeds"]),
    metric=metric,
    split=split,
    lower_is_better=bool(metric) and best.value({metric: 1.0}) < 0,
    is_fraction=is_fraction(metric),
    variants=variants,
    notes=tuple(_notes(variants, kind, plan["order_seed"])),
  )


def _variant(
  directory: pathlib.Path,
  entry: Mapping[str, Any],
  ends: Mapping[str, Mapping[str, Any]],
  figures: Mapping[str, Figures],
  metric: str,
  kind: Kind,
) -> Variant:
  """A row without its comparison."""
  runs = tuple(_run(directory, run, ends[run["run"]], figures.get(run["run"]), metric) for run in entry["runs"])
  found = [figures[run["run"]] for run in entry["runs"] if run["run"] in figures]
  interval, words = spread([run.score for run in runs if run.score is not None], found, metric, kind)
  return Variant(
    name=entry["name"],
    changes={key: (old, new) for key, (old, new) in entry["changes"].items()},
    runs=runs,
    mean=mean(run.score for run in runs),
    interval=interval,
    interval_kind=words,
    difference=None,
    p_holm=None,
    parameters=next((f.parameters for f in found), None),
    gflop=next((f.gflop for f in found), None),
    clips_per_s=mean(f.clips_per_s for f in found),
    seconds=mean(f.seconds for f in found),
    peak_mib=mean(f.peak_mib for f in found),
  )


def _run(
  directory: pathlib.Path, entry: Mapping[str, Any], end: Mapping[str, Any], found: Figures | None, metric: str
) -> SeedRun:
  state, reason = end["state"], end["reason"]
  score = found.scores.get(metric) if found else None
  if state == "complete" and score is None:
    state, reason = "failed", f"{entry['run']}/result.json is missing, or has no {metric or 'figures'}"
  members = found.members if found else None
  return SeedRun(entry["seed"], directory / entry["run"], state, score, reason, entry["command"], members)


def _difference(variant: Variant, baseline: Variant, split: str, metric: str, kind: Kind) -> Comparison | None:
  """By seed; where only one seed has both, by clip."""
  seeds = sorted(variant.scores.keys() & baseline.scores.keys())
  if len(seeds) == 1 and metric == "top1":
    pair = [next(run.directory for run in each.runs if run.seed == seeds[0]) for each in (variant, baseline)]
    ours, theirs = (right_answers(directory / f"predictions_{split}.jsonl") for directory in pair)
    clips = sorted(ours.keys() & theirs.keys())
    if clips:
      return compare_answers(np.array([ours[c] for c in clips]), np.array([theirs[c] for c in clips]))
  scores = [np.array([each.scores[seed] for seed in seeds], np.float64) for each in (variant, baseline)]
  return compare_seeds(scores[0], scores[1], kind, value_range(metric))


def _notes(variants: Sequence[Variant], kind: Kind, order_seed: int) -> Iterator[str]:
  """What has to be said under the table."""
  differences = [variant.difference for variant in variants if variant.difference]
  methods = sorted({found.method for found in differences if found.p is not None})
  runs = [run for variant in variants for run in variant.runs]
  yield (
    "Seeds differ in first parameters and in what is drawn on the device (dropout, mixing). Batches, crops and "
    f"augmentation are the same for all (config.loader.order_seed = {order_seed})."
  )
  if methods:
    known = sum(found.p is not None for found in differences)
    yield f"p values: {'; '.join(methods)}; Holm's correction for {known} comparisons."
  if any(found.over == "clips" for found in differences):
    yield "One seed: clips are compared, which tells these trained networks apart, and says nothing of other seeds."
  if kind == "bootstrap" and len(variants[0].runs) < 10:
    yield f"A bootstrap interval of {len(variants[0].runs)} seeds is too narrow; the t interval is safer."
  if any((run.members or 1) > 1 for run in runs):
    yield (
      "Runs of one program were trained together. The time of a run is that of its population shared evenly; clips per "
      "second and memory are those of the population."
    )
  if failed := sum(run.state == "failed" for run in runs):
    yield f"{failed} of {len(runs)} runs failed and are left out."
