"""Records of a benchmark for people: cells of a table, a summary, a Markdown page."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
MARK = "<!-- written by experiments.benchmark: do not edit -->"
QUIET = 0.1  # the share of the processor that others may take before a row counts as disturbed


def geometric_mean(values: Iterable[float]) -> float | None:
  """exp(mean(log)), the average of ratios; None of nothing."""
  logs = np.log(list(values))
  return float(np.exp(logs.mean())) if len(logs) else None


def cells(record: Record, named: bool = True) -> list[str]:
  """What there is to say of a record, under the headings of `tabulate`; named: with the peer's name."""
  peer = _time(record, "peer", record["peer_name"])
  return [
    record["name"],
    record["pass"] if record["dtype"] == "float32" else f"{record['pass']} {record['dtype']}",
    _time(record, "ours", "ours"),
    f"{record['peer_name']} {peer}" if named and record["peer"] else peer,
    _time(record, "baseline", record["baseline_name"]),
    _times(record["ratio"]),
    _times(record["ratio_baseline"]),
    f"{record['gflop_s']:.3g}" if record["gflop_s"] else "",
    f"{record['share_of_peak']:.0%}" if record["share_of_peak"] else "",
    " ".join(
      filter(
        None, [network(record), record["lowering"], better_lowering(record), disturbance(record), disagreement(record)]
      )
    ),
  ]


def network(record: Record) -> str:
  """What one asks of a whole network beside its time, or nothing."""
  if record["benchmark"] != "models" or not record["ours"]:
    return ""
  rate, peak = record["shapes"]["clips"][0] / record["ours"] * 1e3, record["peak_mib"]["ours"]
  compiled = record["compile_s"]["ours"]
  return f"{rate:.3g} clips/s, {record['gflop']:.3g} GFLOP, {peak:.0f} MiB, compiled in {compiled:.0f} s"


def tabulate(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
  """Headings and rows of a table, without columns that say nothing or that another one says already."""
  peers = {r["peer_name"] for r in records}
  peer, baseline = peers.pop() if len(peers) == 1 else "peer", records[0]["baseline_name"]
  times = ["ours ms", f"{peer} ms", f"{baseline} ms", f"{peer}/ours", f"{baseline}/ours"]
  heads = ["name", "pass", *times, "GFLOP/s", "of peak", "form"]
  rows = [cells(r, named=peer == "peer") for r in records]
  kept = [i for i, head in enumerate(heads) if head not in heads[:i] and any(row[i] not in ("", "-") for row in rows)]
  return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _time(record: Record, key: str, contender: str) -> str:
  """Median and spread, or why there is none."""
  if record[key] is None:
    return record["absent"].get(contender, "-")
  return f"{record[key]:.3g} ±{record['spread'][contender]:.2g}"


def _times(value: float | None) -> str:
  return f"{value:.2f}x" if value else ""


def better_lowering(record: Record) -> str:
  """Names the fastest lowering where it beats the chosen one by more than a tenth."""
  found = record["lowerings"]
  best = min(found, key=found.__getitem__, default="")
  gain = record["ours"] / found[best] if best and record["ours"] else 1.0
  return f"({best} is {gain:.2f}x faster)" if gain > 1.1 else ""


def disturbance(record: Record) -> str:
  """Says that others used the processor meanwhile, which makes ratios worthless too, or nothing."""
  share = record["others_frac"] or 0.0
  return f"(DISTURBED: others took {share:.0%} of the processor)" if share > QUIET else ""


def disagreement(record: Record) -> str:
  """Says who computed something else, or nothing."""
  if record["agrees"]:
    return ""
  worst = max(record["errors"], key=record["errors"].__getitem__)
  return f"DISAGREES: {worst} is off by {record['errors'][worst]:.1g} from {record['reference']}"


def summary(records: Sequence[Record]) -> list[str]:
  """A line per kind and one for all with the mean ratios, then who stays behind the peer, worst first."""
  lines = [_summary_line(kind, [r for r in records if r["kind"] == kind]) for kind in kinds(records)]
  lines.append(_summary_line("all", records))
  behind = sorted((r for r in records if r["ratio"] and r["ratio"] < 1), key=lambda r: r["ratio"])
  lines += [f"behind {r['peer_name']}: {r['name']}, {r['pass']} {r['dtype']}, {r['ratio']:.2f}x" for r in behind]
  if disturbed := sum(bool(disturbance(r)) for r in records):
    lines.append(f"{disturbed} of {len(records)} rows were disturbed by others on this machine: measure them again")
  lines += [f"{r['name']}, {r['pass']} {r['dtype']} {disagreement(r)}" for r in records if not r["agrees"]]
  return lines


def _summary_line(title: str, records: Sequence[Record]) -> str:
  parts = []
  for pass_ in dict.fromkeys(r["pass"] for r in records):
    rows = [r for r in records if r["pass"] == pass_]
    names = {r["peer_name"] for r in rows}
    peer = names.pop() if len(names) == 1 else "fastest peer"
    for other, key in {peer: "ratio", rows[0]["baseline_name"]: "ratio_baseline"}.items():
      values = [r[key] for r in rows if r[key]]
      if not values and other != peer:
        continue
      mean = geometric_mean(values)
      ahead = f" ({sum(v >= 1 for v in values)} of {len(values)} ahead)"
      parts.append(f"{pass_} {other}/ours " + (f"{mean:.2f}x{ahead}" if mean else "not measured"))
  return f"{title}: " + ", ".join(parts)


def kinds(records: Iterable[Record]) -> list[str]:
  """The kinds, in order of appearance."""
  return list(dict.fromkeys(r["kind"] for r in records))


def markdown(records: Sequence[Record]) -> str:
  """All records as tables, one per suite and kind, under the machines that they were measured on."""
  lines = [
    MARK,
    "# Benchmark",
    "",
    "Median ± distance between the quartiles. Ratios: how many times faster we are.",
    "",
  ]
  lines += [f"- {text}" for text in dict.fromkeys(_machine_text(r["machine"]) for r in records)] + [""]
  for suite in dict.fromkeys(r["benchmark"] for r in records):
    own = [r for r in records if r["benchmark"] == suite]
    for kind in kinds(own):
      rows = [r for r in own if r["kind"] == kind]
      head, body = tabulate(rows)
      lines += [f"## {suite}: {kind}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
      lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in body]
      lines.append("")
    lines += [f"## {suite}: summary", "", *(f"- {line}" for line in summary(own)), ""]
  return "\n".join(lines)


def _machine_text(machine: Record) -> str:
  versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
  where = machine["accelerator"] or f"{machine['cpu']}, {machine['cores']} cores"
  flags = f"; XLA_FLAGS {machine['xla_flags']}" if machine["xla_flags"] else ""
  return f"{where} ({machine['backend']}); {versions}{flags}"
