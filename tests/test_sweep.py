"""Sweeps: every trial is asked for, trained and told once, whatever happens to the workers."""

import json
import multiprocessing
import pathlib
import signal
import time
from collections import Counter
from typing import Any

import pytest
import sweep_stub
from optuna.trial import TrialState
from sweep_stub import train_stub

from experiments.sweeps import study as study_module
from experiments.sweeps import workers as sweep_workers
from experiments.sweeps.plan import Objective, Plan
from experiments.sweeps.study import Study
from experiments.sweeps.workers import work
from vu_jax.errors import UserError
from vu_jax.search import choice, integers
from vu_jax.train.signals import Interrupted


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
  """No training, and no config behind a plan."""
  monkeypatch.setattr(Plan, "experiment", sweep_stub.experiment)
  monkeypatch.setattr(study_module, "grouped", sweep_stub.grouped)
  monkeypatch.setattr(sweep_workers, "train_group", train_stub(tmp_path / "log"))


def record(plan: Plan) -> dict[str, Any]:
  return json.loads((plan.directory / "study.json").read_text())


def states(plan: Plan) -> Counter:
  return Counter(trial["state"] for trial in record(plan)["trials"])


def trained(log: pathlib.Path) -> Counter:
  """How often each trial was trained to each step."""
  return Counter(log.read_text().split("\n")[:-1])


def test_a_sweep_ends_with_all_of_its_trials(tmp_path):
  """16 trials with halving; of each four at a step, those go on that are the best third of all; nothing is left."""
  plan = sweep_stub.plan(tmp_path / "s")
  work(plan)
  found, log = record(plan), trained(tmp_path / "log")
  assert [t["number"] for t in found["trials"]] == list(range(16))
  assert set(states(plan)) == {"complete", "pruned"}
  assert set(log.values()) == {1}
  for trial in found["trials"]:
    steps = [step for step, _ in trial["curve"]]
    assert [f"{trial['run'][-4:]} {step}" in log for step in (1, 2, 3)] == [step in steps for step in (1, 2, 3)]
    assert trial["value"] == pytest.approx(sweep_stub.top1(trial["params"], steps[-1]))
    assert ("drop" in trial["params"]) == (trial["params"]["net"] == "deep")
  assert sum(found["importance"].values()) == pytest.approx(1)
  assert sorted(p.name for p in (plan.directory / "groups").iterdir()) == ["lock"]
  best = max((t for t in found["trials"] if t["state"] == "complete"), key=lambda t: t["value"])
  assert best["command"] in (plan.directory / "commands.sh").read_text().splitlines()
  assert f"--config.lr={best['params']['lr']!r} " in best["command"]
  first = (plan.directory / "study.json").read_bytes()
  work(plan)
  assert (plan.directory / "study.json").read_bytes() == first
  assert trained(tmp_path / "log") == log


def test_more_trials_extend_it(tmp_path):
  """Those that are there stay; another sampler and pruner may go on; fewer trials change nothing."""
  work(sweep_stub.plan(tmp_path / "s", trials=3))
  before = record(sweep_stub.plan(tmp_path / "s"))["trials"]
  work(sweep_stub.plan(tmp_path / "s", trials=7, sampler="cmaes", pruner="median"))
  after = record(sweep_stub.plan(tmp_path / "s"))["trials"]
  assert (len(before), len(after)) == (3, 7)
  assert after[:3] == before
  assert len({json.dumps(t["params"]) for t in after}) == 7
  work(sweep_stub.plan(tmp_path / "s", trials=2))
  assert record(sweep_stub.plan(tmp_path / "s"))["trials"] == after


def test_a_grid_has_each_combination_once(tmp_path):
  """Also when it is asked for in pieces."""
  space = {"net": choice("wide", "deep"), "n": integers(1, 3, when={"net": "deep"}), "t": choice((1, 2), (3,))}
  for trials in (3, 5, 1000):
    plan = sweep_stub.plan(tmp_path / "s", space=space, sampler="grid", trials=trials, pruner="none")
    work(plan)
  found = [(t["params"]["net"], t["params"].get("n"), tuple(t["params"]["t"])) for t in record(plan)["trials"]]
  assert found == [
    (net, n, t) for net, n in (("wide", None), *(("deep", i) for i in (1, 2, 3))) for t in ((1, 2), (3,))
  ]
  assert "'--config.t=(1, 2)'" in record(plan)["trials"][0]["command"]


def test_halving_keeps_the_best_third_of_a_population(tmp_path):
  """By hand: of nine members three go on after the first evaluation, one of these after the third."""
  space = {"lr": choice(*(10.0**-n for n in range(3, 12)))}  # the first is the best
  plan = sweep_stub.plan(tmp_path / "s", space=space, sampler="grid", trials=9, batch=9)
  work(plan)
  assert [len(t["curve"]) for t in record(plan)["trials"]] == [3, 3, 3, 1, 1, 1, 1, 1, 1]
  assert [t["state"] for t in record(plan)["trials"]] == ["complete"] * 3 + ["pruned"] * 6


def test_failures_have_a_reason_and_stop_nothing(tmp_path, monkeypatch):
  """Values that do not go together, an error in training, a figure that is no number, and a member that diverged."""
  real = train_stub(tmp_path / "log", score=lambda values, step: float("nan") if values["n"] == 2 else 0.5)

  def train(members, *rest):
    if members[0].experiment.values["net"] == "bad":
      raise RuntimeError("no kernel for this\nand much more")
    return real(members, *rest)

  monkeypatch.setattr(sweep_workers, "train_group", train)
  space = {"net": choice("wide", "broken", "bad"), "n": choice(1, 2)}
  plan = sweep_stub.plan(tmp_path / "s", space=space, sampler="grid", pruner="none")
  work(plan)
  assert [(t["state"], t["reason"]) for t in record(plan)["trials"]] == [
    ("complete", ""),
    ("failed", "its top1 is nan"),
    *[("failed", "config.net = 'broken': cannot be built")] * 2,
    *[("failed", "RuntimeError: no kernel for this")] * 2,
  ]
  assert "and much more" in (plan.directory / "logs" / "0004.log").read_text()


def test_what_is_nobodys_trials_fault_stops_it(tmp_path, monkeypatch):
  """Three groups in a row that could not be trained, from the first one on."""

  def train(*given):
    raise UserError("the data are gone")

  monkeypatch.setattr(sweep_workers, "train_group", train)
  plan = sweep_stub.plan(tmp_path / "s", batch=1)
  with pytest.raises(UserError, match="the first 3 groups could not be trained: the data are gone; mend that"):
    work(plan)
  assert states(plan) == {"failed": 3}


def test_another_sweep_is_refused(tmp_path):
  """Other values, another config or objective; the message says what differs."""
  work(sweep_stub.plan(tmp_path / "s", trials=1))
  for change, words in (
    ({"space": {**sweep_stub.SPACE, "net": choice("wide", "flat")}}, "vary.net: "),
    ({"objective": Objective("loss", "minimize", "test")}, "objective.direction: 'maximize' there, 'minimize' here"),
    ({"resolved": {"seed": 1, "train": sweep_stub.TRAIN, "loader": {}}}, "config.seed: 0 there, 1 here"),
  ):
    with pytest.raises(UserError) as error:
      Study(sweep_stub.plan(tmp_path / "s", **change))
    assert "holds another sweep (" in str(error.value)
    assert words in str(error.value)
  (tmp_path / "s" / "study.db").unlink()
  with pytest.raises(UserError, match="is not in this storage: give the --storage that it began with"):
    Study(sweep_stub.plan(tmp_path / "s"))


class Killed(BaseException):
  """The worker is gone at this place, and its locks with it."""


def killed_at(plan: Plan, count: int, monkeypatch: pytest.MonkeyPatch) -> bool:
  """Works until the n-th write to the storage or to a group file; False = it was done before that."""
  left = [count]

  def dying(function):
    def call(*given, **named):
      left[0] -= 1
      if left[0] == 0:
        raise Killed
      return function(*given, **named)

    return call

  storage = study_module.optuna.storages.RDBStorage
  with monkeypatch.context() as patch:
    for name in ("create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_intermediate_value"):
      patch.setattr(storage, name, dying(getattr(storage, name)))
    for name in ("write", "remove"):
      patch.setattr(study_module.Groups, name, dying(getattr(study_module.Groups, name)))
    try:
      work(plan)
    except Killed:
      return True
    return False


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_kill_at_any_place_loses_and_repeats_nothing(sampler, tmp_path, monkeypatch):
  """Killed again and again, each time a few writes further: the trials are those of the unbroken sweep."""
  space = {"net": choice("wide", "deep"), "n": integers(1, 3)}
  given = {"space": space, "sampler": sampler, "trials": 4, "batch": 2, "pruner": "none"}
  whole, broken = sweep_stub.plan(tmp_path / "whole", **given), sweep_stub.plan(tmp_path / "broken", **given)
  work(whole)
  (tmp_path / "log").unlink()
  kills = 0
  while killed_at(broken, 1 + 2 * (kills % 6), monkeypatch) and kills < 200:
    kills += 1
  assert kills > 5
  assert states(broken) == {"complete": 4}
  assert trained(tmp_path / "log") == {f"{n:04d} {step}": 1 for n in range(4) for step in (1, 2, 3)}
  if sampler == "grid":
    assert [t["params"] for t in record(broken)["trials"]] == [t["params"] for t in record(whole)["trials"]]


def test_a_worker_asked_to_stop_leaves_its_group(tmp_path, monkeypatch):
  """The group waits for the next call, which goes on with it."""
  plan = sweep_stub.plan(tmp_path / "s", trials=2, batch=2, space={"net": choice("wide", "deep")}, sampler="grid")
  with monkeypatch.context() as patch:

    def train(members, folder, data_dir, screen, on_scores, vary, split):
      on_scores(1, {0: {"top1": 0.5}})
      raise Interrupted("step 1")

    patch.setattr(sweep_workers, "train_group", train)
    for _ in range(4):
      with pytest.raises(Interrupted):
        work(plan)
  assert states(plan) == {"running": 2}
  work(plan)
  assert states(plan)["failed"] == 0


def test_sigkill_of_real_processes(tmp_path, monkeypatch):
  """16 trials, TPE with pruning, two workers; one is killed, then the other: 16 finished trials, none run twice."""
  plan, log = sweep_stub.plan(tmp_path / "s"), tmp_path / "log"
  monkeypatch.setattr(sweep_workers, "train_group", train_stub(log, pause_s=0.1))
  pair = [multiprocessing.get_context("fork").Process(target=work, args=(plan,)) for _ in range(2)]
  for worker in pair:
    worker.start()
  for worker, lines in zip(pair, (6, 12), strict=True):
    while not log.exists() or len(log.read_text().splitlines()) < lines:
      assert pair[1].is_alive()
      time.sleep(0.02)
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
  assert sum(t.state.is_finished() for t in Study(plan).trials()) < 16
  work(plan)
  trials = Study(plan).trials()
  assert len(trials) == 16
  assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
  counts = trained(log)
  assert set(counts) == {f"{t.number:04d} {step}" for t in trials for step in t.intermediate_values}
  # A step whose checkpoint a kill has prevented is trained again: one step of one group for each kill.
  again = [line for line, count in counts.items() if count > 1]
  assert len(again) <= 2 * plan.batch
  assert max(counts.values()) <= 2
  assert len(record(plan)["trials"]) == 16
