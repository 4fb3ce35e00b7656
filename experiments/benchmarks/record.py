"""What a benchmark leaves: one record per row, and the files that keep them."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.table import MARK, Record, markdown
from experiments.benchmarks.timing import Entrant, Row, Timing
from vu_jax.disk import write_text
from vu_jax.errors import UserError

LOWERING = "lowering "


def make_record(
  suite: str,
  row: Row,
  entrants: Mapping[str, Entrant],
  timings: Mapping[str, Timing],
  absent: Mapping[str, str],
  peak: float,
) -> Record:
  """The record of one row; times are medians in milliseconds, ratios say how many times faster we are.

  Args:
    absent: contender -> why it did not take part.
    peak: of a large matrix product in the row's dtype [1/s].
  """
  ms = {name: round(timing.median_s * 1e3, 4) for name, timing in timings.items()}
  work = row.flops()
  rate = work / timings["ours"].median_s if "ours" in timings else None
  reference = next((name for name in (row.baseline, *row.peers) if name in entrants), None)
  peer = min((name for name in row.peers if name in ms), key=ms.__getitem__, default=row.peers[0])
  errors = {
    name: relative_error(entrant.outputs, entrants[reference].outputs)
    for name, entrant in entrants.items()
    if reference and name != reference
  }
  ours_form = entrants["ours"].contender.form if "ours" in entrants else ""
  lowerings = {n.removeprefix(LOWERING): t for n, t in ms.items() if n.startswith(LOWERING)}
  return {
    "benchmark": suite,
    "name": row.name,
    "kind": row.kind,
    "pass": row.pass_,
    "dtype": row.dtype,
    "shapes": {name: list(shape) for name, shape in row.shapes.items()},
    "unit": "ms",
    "ours": ms.get("ours"),
    "peer": ms.get(peer),
    "baseline": ms.get(row.baseline),
    "ratio": ratio(ms.get(peer), ms.get("ours")),
    "ratio_baseline": ratio(ms.get(row.baseline), ms.get("ours")),
    "peers": {name: ms[name] for name in row.peers if name in ms},
    "gflop": round(work / 1e9, 4),
    "gflop_s": rate and round(rate / 1e9, 2),
    "share_of_peak": rate and round(rate / peak, 4),
    "lowering": ours_form,
    "lowerings": {ours_form: ms["ours"], **lowerings} if lowerings and "ours" in ms else lowerings,
    "peer_name": peer,
    "peer_form": entrants[peer].contender.form if peer in entrants else "",
    "baseline_name": row.baseline,
    "spread": {name: round(timing.spread_s * 1e3, 4) for name, timing in timings.items()},
    "rounds": {name: len(timing.samples_s) for name, timing in timings.items()},
    "compile_s": {name: round(entrant.contender.compile_s, 3) for name, entrant in entrants.items()},
    "peak_mib": {n: round(e.contender.peak_bytes / 2**20, 1) for n, e in entrants.items() if e.contender.peak_bytes},
    "reference": reference,
    "errors": errors,
    "agrees": all(error <= row.tolerance for error in errors.values()),
    "absent": dict(absent),
  }


def ratio(other: float | None, ours: float | None) -> float | None:
  """How many times faster we are; None where one of the two is missing."""
  return round(other / ours, 4) if other and ours else None


def relative_error(found: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
  """The largest difference of any array, relative to the array's largest value; infinite for other shapes or NaN."""
  if [a.shape for a in found] != [b.shape for b in right]:
    return float("inf")
  errors = [np.abs(a - b).max() / max(np.abs(b).max(), 1e-30) for a, b in zip(found, right, strict=True) if b.size]
  worst = float(np.max(errors, initial=0.0))
  return worst if np.isfinite(worst) else float("inf")


class Store:
  """The file of records and the table beside it; rows that are measured again replace the old ones."""

  def __init__(self, path: pathlib.Path):
    """Raises UserError: the path cannot be written, or is taken by something that is no benchmark record."""
    self.path, self.table = path, path.with_suffix(".md")
    if self.table == path:
      raise UserError(f"--json={path}: the table will be {path}; name the records differently, such as .json")
    if not os.access(path.parent, os.W_OK) or path.is_dir():
      raise UserError(f"--json={path}: cannot be written; name a file in an existing folder")
    self.records = _read(path)
    if self.table.exists() and not self.table.read_text(errors="replace").startswith(MARK):
      raise UserError(f"--json={path}: {self.table} exists and is no benchmark table; name another file")

  def add(self, record: Record) -> None:
    """Keeps a record, and writes everything: whoever stops the program loses nothing."""
    self.records = [r for r in self.records if _identity(r) != _identity(record)] + [record]
    for path, text in ((self.path, json.dumps(self.records, indent=1)), (self.table, markdown(self.records))):
      write_text(path, text)


def _identity(record: Record) -> tuple[Any, ...]:
  machine = record["machine"]
  return (*(record[key] for key in ("benchmark", "name", "pass", "dtype")), machine["cpu"], machine["accelerator"])


def _read(path: pathlib.Path) -> list[Record]:
  if not path.exists():
    return []
  try:
    found = json.loads(path.read_text())
    markdown(found)  # fails on what this version cannot show
  except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
    raise UserError(f"--json={path}: exists and is no benchmark record; name another file") from error
  return found
