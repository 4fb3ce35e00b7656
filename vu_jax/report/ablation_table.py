"""The table of an ablation: for a terminal, as Markdown, and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from vu_jax.report.ablation import Ablation, Variant
from vu_jax.report.headline import duration, number
from vu_jax.report.paired import Interval

UNKNOWN = "-"
SCORES = 8


def columns(found: Ablation) -> list[str]:
  """Heads of the table's columns; the first `SCORES` are about the score, the others about its cost."""
  score, points = (" (%)", " (points)") if found.is_fraction else ("", "")
  heads = ["variant", "seeds", f"{found.split} {found.metric or 'score'}".strip() + score, "95 %"]
  heads += [f"difference{points}", "95 %", "p", "p (Holm)"]
  return [*heads, "parameters", "GFLOP", "clips/s", "time per run", "peak MiB"]


def cells(found: Ablation, variant: Variant) -> list[str]:
  """A row as text."""
  scale = 100 if found.is_fraction else 1
  d = variant.difference
  mean, ends, p = (d.mean, d.interval, d.p) if d else (None, None, None)
  return [
    variant.name,
    _seeds(variant),
    _number(variant.mean, scale),
    _interval(variant.interval, scale),
    _number(mean, scale, "+"),
    _interval(ends, scale, "+"),
    _p(p),
    _p(variant.p_holm),
    _text(variant.parameters, "{:,}"),
    _text(variant.gflop, "{:.3g}"),
    _text(variant.clips_per_s, "{:.0f}"),
    UNKNOWN if variant.seconds is None else duration(variant.seconds),
    _text(variant.peak_mib, "{:.0f}"),
  ]


def rich_table(found: Ablation) -> Group:
  """For a terminal: scores above costs, as both beside each other fit no terminal."""
  heads, rows = columns(found), [cells(found, variant) for variant in found.variants]
  cost = [0, *range(SCORES, len(heads))]
  title = f"{found.name}: {len(rows) - 1} variants"
  return Group(_part(heads, rows, range(SCORES), title), _part(heads, rows, cost, ""))


def _part(heads: Sequence[str], rows: Sequence[Sequence[str]], which: Sequence[int], title: str) -> Table:
  table = Table(title=title or None, title_justify="left")
  for i in which:
    table.add_column(heads[i], justify="right" if i else "left", no_wrap=heads[i] == "95 %", overflow="fold")
  for row in rows:
    table.add_row(*(escape(row[i]) for i in which))
  return table


def change_lines(found: Ablation) -> Iterator[str]:
  """Per variant a line of all values that are not the baseline's, and one per reason of failures."""
  for variant in found.variants:
    if variant.changes:
      yield f"{variant.name}: {changes_text(variant)}"
    for reason in dict.fromkeys(variant.failed.values()):
      seeds = ", ".join(str(seed) for seed, why in variant.failed.items() if why == reason)
      yield f"{variant.name}, failed with seed {seeds}: {reason}"


def changes_text(variant: Variant) -> str:
  """Such as "optim.lr_peak: 0.003 -> 0.001"; keys that only one of two models has are listed as gone or new."""
  both = [f"{k}: {old} -> {new}" for k, (old, new) in variant.changes.items() if old is not None and new is not None]
  new = [f"{k} = {new}" for k, (old, new) in variant.changes.items() if old is None]
  gone = [f"{k} = {old}" for k, (old, new) in variant.changes.items() if new is None]
  parts = [*both, f"new: {', '.join(new)}" if new else "", f"gone: {', '.join(gone)}" if gone else ""]
  return "; ".join(filter(None, parts))


def markdown_text(found: Ablation) -> str:
  """The table, what differs, and the notes."""
  heads = columns(found)
  rows = [heads, ["---", *(["---:"] * (len(heads) - 1))], *(cells(found, variant) for variant in found.variants)]
  table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
  lines = [f"- {line}" for line in change_lines(found)]
  return "\n".join([f"`{found.command}`", "", *table, "", *lines, "", *found.notes, ""])


def csv_text(found: Ablation) -> str:
  """One line per variant with plain numbers; scores as they are, not in percent; empty = not known."""
  out = io.StringIO()
  write = csv.writer(out, lineterminator="\n")
  seeds = [f"{found.metric}_seed{seed}" for seed in found.seeds]
  head = ["variant", "metric", "split", "mean", "low", "high", "interval", "difference", "difference_low"]
  head += ["difference_high", "p", "p_holm", "method", "parameters", "gflop_per_clip", "clips_per_s", "seconds_per_run"]
  write.writerow([*head, "peak_mib", "failed", *seeds, "changes"])
  for v in found.variants:
    low, high = v.interval or (None, None)
    d = v.difference
    d_low, d_high = (d and d.interval) or (None, None)
    row: list[Any] = [
      v.name,
      found.metric,
      found.split,
      v.mean,
      low,
      high,
      v.interval_kind,
      d and d.mean,
      d_low,
      d_high,
    ]
    row += [d and d.p, v.p_holm, d and d.method, v.parameters, v.gflop, v.clips_per_s, v.seconds, v.peak_mib]
    write.writerow([*row, len(v.failed), *(v.scores.get(seed) for seed in found.seeds), changes_text(v)])
  return out.getvalue()


def _seeds(variant: Variant) -> str:
  """Runs that are complete, with the number of others where there are any."""
  failed, open_ = len(variant.failed), sum(run.state == "unfinished" for run in variant.runs)
  others = [f"{failed} failed" if failed else "", f"{open_} to do" if open_ else ""]
  return ", ".join([str(len(variant.scores)), *filter(None, others)])


def _number(value: float | None, scale: float, sign: str = "") -> str:
  if value is None:
    return UNKNOWN
  return f"{value * scale:{sign}.1f}" if scale == 100 else sign * (value > 0) + number(value)


def _interval(ends: Interval | None, scale: float, sign: str = "") -> str:
  return UNKNOWN if ends is None else f"{_number(ends[0], scale, sign)} .. {_number(ends[1], scale, sign)}"


def _p(value: float | None) -> str:
  return UNKNOWN if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _text(value: float | None, form: str) -> str:
  return UNKNOWN if value is None else form.format(value)
