"""Assembles the report of one run: one HTML page that needs nothing but itself."""

import json
import pathlib
from typing import Any

import numpy as np

from vu_jax.report import headline, html, sections
from vu_jax.report.records import Run, load_run


def write_report(run_dir: pathlib.Path) -> pathlib.Path:
  """Writes run_dir/report.html from the records in run_dir, and returns its path.

  A run that was stopped early gives a page too: sections without records are left out.

  Raises:
    UserError: run_dir holds no records, or a damaged one.
  """
  return html.write_page(run_dir / "report.html", render(load_run(run_dir)))


def render(run: Run) -> str:
  """The page of a run, as HTML text."""
  values = dict(
    title=run.name,
    run=run,
    subject=_subject(run),
    notices=notices(run),
    score=headline.score(run.evaluation),
    facts=headline.metric_facts(run.evaluation) + headline.cost_facts(run),
    main_panels=sections.main_panels(run),
    small_panels=sections.small_panels(run),
    confusion=sections.confusions(run),
    calibration=sections.calibration(run),
    cards={kind: sections.cards(run, kind) for kind in ("wrong", "right")},
    settings=_by_part(run.config),
    provenance=_provenance(run),
  )
  return html.page("run", values)


def notices(run: Run) -> list[str]:
  """What the reader must know before the numbers: no evaluation yet, a loss that is not finite."""
  found = []
  if run.evaluation is None or not run.evaluation.final:
    last = max((row["step"] for row in run.rows), default=0)
    words = [f"This run has no final evaluation yet: its records reach step {last:,}"]
    if run.evaluation:
      words.append(f"the scores are those of the {run.evaluation.split} split at step {run.evaluation.step:,}")
    found.append(", and ".join(words) + ".")
  steps, loss = run.series("train", "loss")
  if not np.isfinite(loss).all():
    found.append(f"The training loss stopped being a finite number at step {steps[~np.isfinite(loss)][0]:,.0f}.")
  if unread := run.result.get("unreadable_clips"):
    found.append(f"{unread:,} training clips could not be read and were replaced by others; quarantine.jsonl says why.")
  return found


def _subject(run: Run) -> str:
  data, model, task = (run.setting(f"{part}.name") for part in ("data", "model", "task"))
  finished = str(run.result.get("provenance", {}).get("finished") or "").replace("T", " ")[:16]
  words = [
    f"{model} on {data}" if model and data else model or data,
    task,
    f"seed {run.config['seed']}" if "seed" in run.config else None,
    f"{run.result['step']:,} steps" if "step" in run.result else None,
    f"finished {finished}" if finished else None,
  ]
  return " · ".join(str(word) for word in words if word)


def _provenance(run: Run) -> list[tuple[str, str]]:
  rows = []
  for key, value in run.result.get("provenance", {}).items():
    parts = [f"{name} {text}" for name, text in _flatten(value)] if isinstance(value, dict) else [str(value)]
    rows.append((key.replace("_", " "), " · ".join(parts)))
  return rows


def _by_part(config: dict[str, Any]) -> list[list[tuple[str, str]]]:
  """The resolved config as rows of dotted key and value; one list per part, single keys first."""
  parts: dict[str, list[tuple[str, str]]] = {"": []}
  for key, value in _flatten(config):
    parts.setdefault(key.partition(".")[0] if "." in key else "", []).append((key, value))
  return [rows for rows in parts.values() if rows]


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
  rows = []
  for key, value in tree.items():
    if isinstance(value, dict):
      rows += _flatten(value, f"{prefix}{key}.")
    else:
      rows.append((prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
  return rows
