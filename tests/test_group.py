"""Groups: members trained at once leave run directories, whoever diverges, is ended, or stops the program."""

import os
import pathlib
import shutil
import signal
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from programs import SMALL_DATA, call, job

import experiments.groups.train
import experiments.launch
from experiments.cli import console
from experiments.groups.deaths import MOST_DEATHS, counted_deaths
from experiments.groups.members import grouped
from experiments.groups.record import Outcome, Record, should_shrink
from experiments.groups.train import Member, OnScores, nobody, train_group
from experiments.running.assemble import assemble
from vu_jax.config import load
from vu_jax.errors import UserError
from vu_jax.report.records import Run, load_run
from vu_jax.train.signals import Interrupted

CONFIG = "configs/motion_frame_cnn.py"
TINY = SMALL_DATA | {
  "model.stages": "((4,2),(8,2))",
  "loader.order_seed": "0",
  "train.max_skipped_steps": "2",
  "train.steps": "12",
}
CHANGES: tuple[dict[str, str], ...] = (
  {"seed": "0"},
  {"seed": "1", "optim.lr_peak": "1e38"},
  {"seed": "2", "optim.lr_peak": "1e-3"},
  {"seed": "3"},
)
DIVERGES, PRUNED = 1, 3


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return tmp_path_factory.mktemp("data")


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
  """They take a second each, and are looked at elsewhere."""
  for module in (experiments.groups.train, experiments.launch):
    monkeypatch.setattr(module, "write_report", lambda directory: None)


def members(folder: pathlib.Path) -> list[Member]:
  return [Member(assemble(load(CONFIG, TINY | c)), folder / f"run{i}") for i, c in enumerate(CHANGES)]


def pruner(step: int, scores: Mapping[int, Mapping[str, float]]) -> Collection[int]:
  """Ends one member at the first evaluation."""
  assert DIVERGES not in scores or step < 4
  return {PRUNED} if step == 4 and PRUNED in scores else ()


def trained(folder: pathlib.Path, data_dir: pathlib.Path, on_scores: OnScores = pruner) -> list[Outcome]:
  return train_group(members(folder), folder / "group", data_dir, console(), on_scores)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, data_dir: pathlib.Path) -> tuple[pathlib.Path, list[Outcome]]:
  folder = tmp_path_factory.mktemp("unbroken")
  return folder, trained(folder, data_dir)


def curves(run: Run) -> list[dict[str, float]]:
  """What was recorded, but for times."""
  keys = ("step", "loss", "top1", "lr", "grad_norm")
  return [{k: row[k] for k in keys if k in row} for row in run.rows]


def test_each_ends_in_its_own_way(unbroken):
  folder, outcomes = unbroken
  assert [o.state for o in outcomes] == ["complete", "failed", "complete", "pruned"]
  assert [o.step for o in outcomes[::2]] == [12, 12]
  assert "not finite for 2 steps in a row: lower config.optim.lr_peak" in outcomes[DIVERGES].reason
  assert outcomes[PRUNED].step == 4
  assert outcomes[PRUNED].scores["loss"] > 0
  runs = [load_run(folder / f"run{i}") for i in range(4)]
  assert [r.result.get("step") for r in runs] == [12, None, 12, None]
  assert max(row["step"] for row in runs[PRUNED].rows) == 4
  assert runs[0].result["population"] == 2, "two of four are left"
  assert runs[0].result["train_seconds"] < sum(r.result.get("train_seconds", 0) for r in runs)
  records, page = (folder / "run0" / name for name in ("metrics.jsonl", "report.html"))
  assert page.stat().st_mtime_ns >= records.stat().st_mtime_ns, "the last evaluation is not on the page"
  rates = [runs[i].series("train", "lr")[1][1] for i in (0, 2)]
  assert rates[0] / rates[1] == pytest.approx(8e-3 / 1e-3, rel=1e-4)
  assert not list((folder / "group").glob("part*")), "checkpoints of the group stay behind"


def test_a_member_has_the_figures_of_a_run_alone_which_goes_on_with_it(
  unbroken, data_dir, capsys, monkeypatch, tmp_path, no_pages
):
  folder, _ = unbroken
  changes = {k.replace(".", "__"): v for k, v in (TINY | CHANGES[2]).items()}
  ended = call("launch", *job(tmp_path / "alone", data_dir, CONFIG, **changes), capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0
  alone, member = load_run(tmp_path / "alone"), load_run(folder / "run2")
  for one, other in zip(curves(alone), curves(member), strict=True):
    assert one == pytest.approx(other, rel=2e-3, abs=1e-5)
  assert alone.result["test"] == pytest.approx(member.result["test"], rel=1e-3)
  # The pruned one goes on, as a run of its own.
  changes = {k.replace(".", "__"): v for k, v in (TINY | CHANGES[PRUNED]).items()}
  copy = shutil.copytree(folder / "run3", tmp_path / "run3")
  call("launch", *job(copy, data_dir, CONFIG, **changes), capsys=capsys, monkeypatch=monkeypatch)
  went_on = load_run(copy)
  assert went_on.result["step"] == 12
  assert [row["step"] for row in went_on.rows if row["split"] == "validation"] == [4, 8, 12]


def test_stopped_and_continued_equals_unbroken(unbroken, data_dir, tmp_path, no_pages):
  whole, outcomes = unbroken
  stops = {4, 12}

  def stopped(step: int, scores: Mapping[int, Mapping[str, float]]) -> Collection[int]:
    if step in stops:
      stops.remove(step)
      os.kill(os.getpid(), signal.SIGTERM)
    return pruner(step, scores)

  for _ in range(2):
    with pytest.raises(Interrupted):
      trained(tmp_path, data_dir, stopped)
  assert trained(tmp_path, data_dir, stopped) == outcomes
  assert not stops
  for i in range(4):
    assert curves(load_run(tmp_path / f"run{i}")) == curves(load_run(whole / f"run{i}"))
  before = (tmp_path / "run0" / "result.json").stat().st_mtime_ns
  assert trained(tmp_path, data_dir) == outcomes
  assert (tmp_path / "run0" / "result.json").stat().st_mtime_ns == before, "a complete group is trained again"


def test_all_diverge(data_dir, tmp_path, no_pages):
  experiment = assemble(load(CONFIG, TINY | CHANGES[DIVERGES]))
  (outcome,) = train_group([Member(experiment, tmp_path / "run")], tmp_path / "group", data_dir, console(), nobody)
  assert outcome.state == "failed"
  assert "not finite" in outcome.reason


def test_groups_share_programs():
  some = [assemble(load(CONFIG, TINY | c)) for c in (*CHANGES, {"model.stages": "((4,2),)"}, {"seed": "9"})]
  assert grouped(some, 3) == [[0, 1, 2], [3, 5], [4]]
  assert grouped(some, 1) == [[0], [1], [2], [3], [5], [4]]


def test_record_refuses_another_group(tmp_path):
  Record(tmp_path, [tmp_path / "a"])
  with pytest.raises(UserError, match="other members"):
    Record(tmp_path, [tmp_path / "b"])


def test_a_group_may_be_moved_with_its_runs(tmp_path):
  (tmp_path / "old").mkdir()
  Record(tmp_path / "old" / "group", [tmp_path / "old" / "run"]).end(0, Outcome("failed", {}, 3, "why"))
  (tmp_path / "old").rename(tmp_path / "new")
  assert Record(tmp_path / "new" / "group", [tmp_path / "new" / "run"]).outcomes[0].reason == "why"


@pytest.mark.parametrize(
  ("running", "of", "expected"), [(4, 4, False), (3, 4, False), (2, 4, True), (0, 4, False), (1, 1, False)]
)
def test_a_population_shrinks_by_halves(running, of, expected):
  assert should_shrink(running, of) == expected


def test_mean_of_scores_is_that_of_running_members(unbroken):
  """The group's own record of evaluations is not left with NaN by the member that diverged."""
  folder, _ = unbroken
  assert np.isfinite([row["loss"] for row in load_run(folder / "run0").rows]).all()


def dies(folder: pathlib.Path, at: int | None = None) -> None:
  """A process that reaches a step, and is gone without leaving by itself."""
  context = counted_deaths(folder)
  on_step = context.__enter__()
  if at is not None:
    on_step(at)
  gone.append(context)  # not closed, as nothing is in a process that was killed


gone: list[Any] = []


def test_a_group_that_kills_its_process_is_given_up(tmp_path: pathlib.Path):
  """After so many deaths at one place; the next call tries it again."""
  for step in (None, 3, 3, 6, 6):
    dies(tmp_path, step)
  for _ in range(MOST_DEATHS - 2):
    dies(tmp_path, 6)
  with pytest.raises(UserError, match=f"died {MOST_DEATHS} times at the same place"), counted_deaths(tmp_path):
    pass
  dies(tmp_path)


def test_what_leaves_by_itself_is_no_death(tmp_path: pathlib.Path):
  for error in (Interrupted("step 1"), OSError("disk full"), KeyboardInterrupt()) * MOST_DEATHS:
    with pytest.raises(type(error)), counted_deaths(tmp_path):
      raise error
  assert not list(tmp_path.iterdir())
