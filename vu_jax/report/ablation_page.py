"""The page of an ablation: which variant differs from the baseline, by how much, and how sure that is."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from vu_jax.report import headline, html, seed_curves
from vu_jax.report.ablation import Ablation, SeedRun, Variant, load_ablation
from vu_jax.report.headline import Fact
from vu_jax.report.paired import Interval
from vu_jax.report.records import read_rows
from vu_jax.report.strips import Scale, Strip, scale
from vu_jax.report.svg import SERIES

_SURE = 0.05  # a corrected p value below this is called a difference
_EVALUATED = ("validation", "test")  # splits that curves may be of, the first one that was evaluated while training


@dataclass(frozen=True)
class Row:
  """A variant as the page shows it: what is drawn (None = nothing known), and the numbers in words."""

  variant: Variant
  role: str
  strip: Strip | None
  mean: str
  interval: str
  gap: Strip | None
  difference: str
  gap_interval: str
  p: str
  sure: bool
  costs: tuple[str, ...]


def write_ablation_page(directory: pathlib.Path) -> pathlib.Path:
  """Writes report.html of an ablation, done or not, and returns its path.

  Raises:
    UserError: the directory holds no ablation, or a damaged one.
  """
  return html.write_page(directory / "report.html", render(load_ablation(directory)))


def render(ablation: Ablation) -> str:
  """The page of an ablation, as HTML text."""
  rows = table_rows(ablation)
  runs = [(variant, run) for variant in ablation.variants for run in variant.runs]
  values = dict(
    title=ablation.name,
    ablation=ablation,
    metric=headline.metric_name(ablation.metric) if ablation.metric else "Score",
    subject=_subject(ablation),
    unfinished=sum(run.state == "unfinished" for _, run in runs),
    total=len(runs),
    facts=_facts(ablation, rows),
    rows=rows,
    scales=_scales(ablation, rows),
    points="points" if ablation.is_fraction else "",
    score=lambda value: _score(ablation, value),
    kinds=sorted({variant.interval_kind for variant in ablation.variants if variant.interval_kind}),
    panels=_panels(ablation),
    spread=seed_curves.SPREAD,
    failed=[(variant, run) for variant, run in runs if run.state == "failed"],
    place=lambda run: place(ablation, run),
    setting=html.setting,
  )
  return html.page("ablation", values)


def table_rows(ablation: Ablation) -> list[Row]:
  """Variants in the ablation's order, the baseline first."""
  return [_row(ablation, variant, SERIES[i % len(SERIES)]) for i, variant in enumerate(ablation.variants)]


def place(ablation: Ablation, run: SeedRun) -> str:
  """Where a run lies, below the ablation's directory."""
  return str(run.directory.relative_to(ablation.directory))


def _row(ablation: Ablation, v: Variant, role: str) -> Row:
  base, d = ablation.baseline.scores, v.difference
  gaps = tuple(score - base[seed] for seed, score in v.scores.items() if seed in base)
  return Row(
    variant=v,
    role=role,
    strip=None if v.mean is None else Strip(v.mean, v.interval, tuple(v.scores.values())),
    mean="–" if v.mean is None else _score(ablation, v.mean),
    interval=_ends(ablation, v.interval),
    gap=Strip(d.mean, d.interval, gaps) if d else None,
    difference=_gap(ablation, d.mean) if d else "–",
    gap_interval=f"{_gap(ablation, d.interval[0])} to {_gap(ablation, d.interval[1])}" if d and d.interval else "–",
    p="–" if v.p_holm is None else "< 0.001" if v.p_holm < 0.001 else f"{v.p_holm:.3f}",
    sure=v.p_holm is not None and v.p_holm < _SURE,
    costs=_costs(v),
  )


def _costs(v: Variant) -> tuple[str, ...]:
  return (
    "–" if v.parameters is None else f"{v.parameters:,}",
    "–" if v.gflop is None else headline.number(v.gflop),
    "–" if v.clips_per_s is None else headline.number(v.clips_per_s),
    "–" if v.seconds is None else headline.duration(v.seconds),
    "–" if v.peak_mib is None else f"{v.peak_mib:,.0f} MiB",
  )


def _score(ablation: Ablation, value: float) -> str:
  return headline.percent(value) if ablation.is_fraction else headline.number(value)


def _ends(ablation: Ablation, ends: Interval | None) -> str:
  if ends is None:
    return "–"
  return headline.interval(ends) if ablation.is_fraction else f"{headline.number(ends[0])}–{headline.number(ends[1])}"


def _gap(ablation: Ablation, value: float) -> str:
  """With its sign; shares in percentage points."""
  text = f"{100 * value:+.1f}" if ablation.is_fraction else f"{value:+.3g}"
  return text.replace("-", "−")


def _scales(ablation: Ablation, rows: Sequence[Row]) -> tuple[Scale | None, Scale | None]:
  digits = 100.0 if ablation.is_fraction else 1.0
  of_scores = scale([r.strip for r in rows if r.strip], lambda v: f"{digits * v:g}" + " %" * ablation.is_fraction)
  of_gaps = scale(
    [r.gap for r in rows if r.gap], lambda v: f"{digits * v:+g}".replace("-", "−") if v else "0", always=(0.0,)
  )
  return of_scores, of_gaps


def _facts(ablation: Ablation, rows: Sequence[Row]) -> list[Fact]:
  runs = [run for variant in ablation.variants for run in variant.runs]
  compared = [row for row in rows if row.variant.p_holm is not None]
  found = [
    Fact("Variants", str(len(ablation.variants) - 1), "beside the baseline"),
    Fact("Runs complete", f"{sum(run.state == 'complete' for run in runs)} of {len(runs)}"),
  ]
  if compared:
    words = f"differ from the baseline, Holm p < {_SURE:g}"
    found.append(Fact("Sure differences", f"{sum(row.sure for row in compared)} of {len(compared)}", words))
  if seconds := [v.seconds * len(v.scores) for v in ablation.variants if v.seconds]:
    found.append(Fact("Time of all runs", headline.duration(sum(seconds)), "added up"))
  return found


def _subject(ablation: Ablation) -> str:
  better = "less is better" if ablation.lower_is_better else "more is better"
  words = [ablation.config, f"seeds {', '.join(map(str, ablation.seeds))}"]
  if ablation.split:
    words.append(f"{headline.metric_name(ablation.metric)} of {ablation.split}, {better}")
  return " · ".join(words)


def _panels(ablation: Ablation) -> list[seed_curves.Panel]:
  read = [
    (
      v.name,
      [rows for run in v.runs if run.state == "complete" and (rows := read_rows(run.directory / "metrics.jsonl"))],
    )
    for v in ablation.variants
  ]
  seen = {row["split"] for _, runs in read for rows in runs for row in rows}
  split = next((split for split in _EVALUATED if split in seen), "validation")
  return seed_curves.panels(read, ablation.metric or "loss", split)
