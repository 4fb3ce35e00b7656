"""Trains members of a population; each of them gets an ordinary run directory."""

import pathlib
import shutil
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console

from experiments.groups.deaths import counted_deaths
from experiments.groups.part import Member, OnScores, Part, nobody
from experiments.groups.record import Outcome, Record
from vu_jax.report.page import write_report

__all__ = ["Member", "OnScores", "Outcome", "nobody", "train_group"]


def train_group(
  members: Sequence[Member],
  folder: pathlib.Path,
  data_dir: pathlib.Path,
  screen: Console,
  on_scores: OnScores = nobody,
  vary: Sequence[str] = (),
  split: str = "",
) -> list[Outcome]:
  """Trains all members on the same batches, in one program. The same call goes on with a group that was stopped.

  A member that diverges, or is ended early, does no harm to the others.

  Args:
    members: of one `members.program`.
    folder: for the checkpoints of the group, which are removed when all members have ended.
    on_scores: (step, figures of the evaluation by member) -> which of them end here, as "pruned". It is told of an
      evaluation again if the program died before its next checkpoint.
    vary: see `members.together`.
    split: of which result.json holds the figures at the end; "" = test where there is one.

  Raises:
    UserError: they cannot be trained, none of them, or the process has died of it again and again.
    Interrupted: asked to stop; all is saved.
  """
  record = Record(folder, [m.workdir for m in members])
  with counted_deaths(folder) as on_step:

    def told(step: int, scores: Mapping[int, Mapping[str, float]]) -> Collection[int]:
      ended = on_scores(step, scores)
      on_step(step)
      return ended

    while record.running():
      Part(record, [members[i] for i in record.members], data_dir, screen, vary, split, told).train()
  shutil.rmtree(record.part, ignore_errors=True)
  for i, each in enumerate(members):
    if record.outcomes[i].state == "complete" and not (each.workdir / "report.html").exists():
      write_report(each.workdir)  # once the last figures are in its records
  return [record.outcomes[i] for i in range(len(members))]
