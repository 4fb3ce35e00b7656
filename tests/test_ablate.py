"""ABLATE: names become checked variants, groups are trained once, and the table says what the records say.

Training is replaced by records written by hand; one test at the end trains.
"""

import csv
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from programs import LONG, MAIN_JOB, SMALL, call

import experiments.ablations.work
import experiments.running.assemble
from experiments.ablations.variants import (
  Variant,
  baseline,
  check_variants,
  named_values,
  seeded,
  variant_of,
  varied_values,
)
from experiments.cli import split_overrides
from experiments.groups.record import Outcome
from experiments.groups.train import Member
from experiments.running.assemble import assemble, launch_command
from vu_jax.config import load, split_values, text_of
from vu_jax.errors import UserError
from vu_jax.report.ablation import load_ablation
from vu_jax.train.signals import Interrupted

CLIPS = 20


class Trainer:
  """Stands for `train_group`: writes what a run leaves behind.

  Fields:
    right: variant's folder -> right answers of 20 by seed. fails: folder -> what a run of it raises or ends with.
    groups: the folders and seeds of every call.
  """

  def __init__(self) -> None:
    self.right: dict[str, Sequence[int]] = {}
    self.fails: dict[str, Any] = {}
    self.groups: list[list[str]] = []

  def __call__(self, members: Sequence[Member], folder: pathlib.Path, *args: Any, **options: Any) -> list[Outcome]:
    self.groups.append([f"{m.workdir.parent.name}/{m.workdir.name}" for m in members])
    for member in members:
      error = self.fails.get(member.workdir.parent.name)
      if isinstance(error, Exception):
        raise error
    return [self.run(member, len(members)) for member in members]

  def run(self, member: Member, size: int) -> Outcome:
    name, seed = member.workdir.parent.name, member.experiment.seed
    if self.fails.get(name) == f"seed{seed}":
      return Outcome("failed", {}, 3, "loss is not finite")
    right = self.right.get(name, (10, 10, 10))[seed]
    write_run(member.workdir, right, size)
    return Outcome("complete", {"top1": right / CLIPS}, 6)


def write_run(workdir: pathlib.Path, right: int, size: int = 1) -> None:
  """A run of 20 clips and two classes that answers the first `right` of them rightly, trained in a population."""
  workdir.mkdir(parents=True, exist_ok=True)
  result = {
    "parameters": 1234,
    "gflop_per_clip": 0.5,
    "train_seconds": 30.0 / size,
    "population": size,
    "peak_mib": 100.0,
  }
  test = {"top1": right / CLIPS, "loss": 0.1, "num_clips": float(CLIPS)}
  (workdir / "result.json").write_text(json.dumps(result | {"test": test, "name": workdir.name}))
  rates = [{"split": "train", "step": s, "clips_per_s": r} for s, r in ((1, 5.0), (2, 40.0), (3, 42.0))]
  (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, rates)))
  answers = [
    {"id": f"{i:02d}", "label": 0, "probabilities": [1.0, 0.0] if i < right else [0.0, 1.0]} for i in range(20)
  ]
  (workdir / "predictions_test.jsonl").write_text("\n".join(map(json.dumps, answers)))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
  """Instead of training; what is never computed is not traced either."""
  made = Trainer()
  monkeypatch.setattr(experiments.ablations.work, "train_group", made)
  monkeypatch.setattr(experiments.running.assemble, "check_shapes", lambda experiment: None)
  return made


@pytest.fixture
def ablate(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
  def start(*arguments: str, config: str = MAIN_JOB):
    small = [f"--config.{key}={text}" for key, text in SMALL.items()]
    words = [f"--config={config}", f"--workdir={tmp_path / 'work'}", *small, *arguments]
    return call("ablate", *words, capsys=capsys, monkeypatch=monkeypatch)

  return start


@pytest.fixture(scope="module")
def base() -> Variant:
  return baseline(MAIN_JOB, SMALL)


def made(base: Variant, **values: Any) -> Variant:
  return variant_of(MAIN_JOB, base, "it", {key.replace("__", "."): value for key, value in values.items()})


def test_differences_are_exact(base: Variant):
  """Of the resolved configs, defaults included."""
  found = made(base, optim__lr_peak=1e-3, clip__order="shuffled")
  assert found.changes == {"clip.order": ("time", "shuffled"), "optim.lr_peak": (3e-3, 1e-3)}


def test_another_model_keeps_what_it_knows_and_drops_the_rest(base: Variant):
  """conv_lstm_rnn has stem and hidden, too, which stay; for cnn_rnn they are gone, and what is given for it is new."""
  near, far = made(base, model__name="conv_lstm_rnn"), made(base, model__name="cnn_rnn", model__features=8)
  assert near.changes["model.name"] == ("conv_lstm", "conv_lstm_rnn")
  assert near.experiment.resolved()["model"]["hidden"] == [4]
  assert not {"model.hidden", "model.stem", "model.neck"} & near.changes.keys()
  assert far.changes["model.hidden"] == ([4], None)
  assert far.changes["model.features"] == (None, 8)


@pytest.mark.parametrize(
  "values",
  [{"model__name": "conv_lstm_rnn"}, {"model__hidden": (4, 4)}, {"pixels__seen": "frames", "optim__lr_peak": 1e-05}],
)
def test_the_printed_command_repeats_a_run_exactly(base: Variant, values: dict[str, Any]):
  """As a shell splits it, and as `launch` reads it."""
  overrides, experiment = seeded(MAIN_JOB, made(base, **values), 2)
  program, words = (
    shlex.split(launch_command(MAIN_JOB, overrides, "runs/x"))[:3],
    shlex.split(launch_command(MAIN_JOB, overrides, "x"))[3:],
  )
  rest, typed = split_overrides(words)
  assert program == ["python", "-m", "experiments.launch"]
  assert rest == [f"--config={MAIN_JOB}", "--workdir=x"]
  again = assemble(load(MAIN_JOB, typed))
  assert again.resolved() == experiment.resolved()
  assert (again.seed, again.order_seed) == (2, 0)


def test_shapes_that_do_not_fit_name_the_variant(base: Variant):
  with pytest.raises(UserError, match=r"variant .it.: .* at least 2 frames"):
    made(base, clip__num_frames=1)


def test_a_config_in_which_more_follows_the_seed_is_assembled_again(tmp_path: pathlib.Path):
  file = tmp_path / "mine.py"
  lines = ["from configs import motion_convlstm", "def get_config():", "  c = motion_convlstm.get_config()"]
  file.write_text("\n".join([*lines, "  c.data.seed = c.get_ref('seed')", "  return c"]))
  _, experiment = seeded(str(file), baseline(str(file), SMALL), 3)
  assert (experiment.seed, experiment.data.seed) == (3, 3)


QUICK = [p for p in sorted(pathlib.Path("configs").glob("*.py")) if LONG or p.stem != "jhmdb_families"]


@pytest.mark.parametrize("path", [p for p in QUICK if "def get_ablations" in p.read_text()], ids=str)
def test_named_variants_of_the_shipped_configs_build(path: pathlib.Path):
  """With shapes; all of them differ. The 18 families take half a minute: with VU_JAX_LONG=1 only."""
  base = baseline(str(path), {"data.root": "/nowhere"} if load(str(path), {}).data.name == "video_folder" else {})
  named = named_values(str(path))
  assert named
  check_variants(base, [variant_of(str(path), base, name, values) for name, values in named.items()])


def test_values_are_split_outside_of_brackets():
  assert split_values("(8,16),(4,), x") == ["(8,16)", "(4,)", "x"]
  assert list(varied_values(["a=1,2", "b=x"], cross=False)) == ["a=1", "a=2", "b=x"]
  assert varied_values(["a=1,2", "b=x"], cross=True) == {
    "a=1 b=x": {"a": "1", "b": "x"},
    "a=2 b=x": {"a": "2", "b": "x"},
  }
  assert [text_of(v) for v in ("gru", (4, 8), 1e-05, True)] == ["gru", "(4, 8)", "1e-05", "True"]


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (["--vary=model.hiden=(4,4)"], ['variant "model.hiden=(4,4)"', 'did you mean "hidden"']),
    (["--vary=optim.lr_peak=3e-3"], ["nothing to compare"]),
    (["--vary=optim.lr_peak=1e-3,0.001"], ['"optim.lr_peak=1e-3" and "optim.lr_peak=0.001" are the same']),
    (["--vary=model.name=conv_lsm"], ['variant "model.name=conv_lsm"', 'did you mean "conv_lstm"']),
    (["--vary=seed=1,2"], ["--seeds"]),
    (["--vary=optim.lr_peak"], ["KEY=VALUE"]),
    (["--vary=optim.lr_peak=1e-3", "--vary=optim.lr_peak=1e-4"], ["given twice"]),
    (["--only=one laier"], ['did you mean "one layer"']),
    (["--cross"], ["--vary"]),
    (["--seeds=0"], ["--seeds=0"]),
    (["--markdown=README.md", "--vary=optim.lr_peak=1e-3"], ["README.md exists"]),
  ],
)
def test_mistakes_are_one_line(
  arguments: list[str], named: list[str], ablate, trainer: Trainer, tmp_path: pathlib.Path
):
  ended = ablate(*arguments)
  assert ended.code == 2
  assert len(ended.err.splitlines()) == 1
  assert all(word in ended.err for word in named), ended.err
  assert not (tmp_path / "work").exists()


def test_named_variants_that_change_nothing_are_refused(tmp_path: pathlib.Path, ablate, trainer: Trainer):
  """As is a name that would share its folder with another."""
  file = tmp_path / "mine.py"
  head = "from configs.motion_convlstm import get_config\ndef get_ablations(): return "
  for ablations, message in (
    ("{'same': {'optim.lr_peak': 0.003}}", 'variant "same" changes nothing'),
    ("{'a b': {'optim.lr_peak': 1e-3}, 'A_b': {'optim.lr_peak': 2e-3}}", "the same name"),
    ("{'baseline': {'optim.lr_peak': 1e-3}}", "the same name"),
    ("['a']", "get_ablations()"),
  ):
    file.write_text(head + ablations)
    ended = ablate(config=str(file))
    assert (ended.code, message in ended.err) == (2, True), ended.err


def test_the_table_by_hand(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  """Baseline 18, 16, 17 of 20, variant 10, 8, 12: means 85 and 50 %; differences -40, -40, -25 points.

  Their mean is -35, deviation 8.66, standard error 5; t = 7 with 2 degrees of freedom, p = 0.0198; half width 21.5.
  All six runs are one population, as only a rate differs; of its 30 s, 5 s are those of a run.
  """
  trainer.right = {"baseline": (18, 16, 17), "optim.lr_peak=1e-3": (10, 8, 12)}
  ended = ablate("--vary=optim.lr_peak=3e-3,1e-3")
  assert ended.code == 0, ended.err
  assert "optim.lr_peak=3e-3 is the baseline" in ended.out
  assert "optim.lr_peak: 0.003 -> 0.001" in ended.out
  assert [len(group) for group in trainer.groups] == [6]
  found = load_ablation(tmp_path / "work")
  base, other = found.variants
  assert (found.metric, found.split, found.seeds) == ("top1", "test", (0, 1, 2))
  assert (base.mean, other.mean) == (pytest.approx(0.85), pytest.approx(0.5))
  assert other.difference is not None
  assert other.difference.mean == pytest.approx(-0.35)
  assert other.difference.p == pytest.approx(0.0198, abs=1e-4)
  np.testing.assert_allclose(other.difference.interval, (-0.35 - 0.2151, -0.35 + 0.2151), atol=1e-4)
  assert other.p_holm == other.difference.p
  assert (other.parameters, other.clips_per_s, other.seconds, other.peak_mib) == (1234, 40, 5, 100)
  rows = list(csv.DictReader((tmp_path / "work" / "table.csv").open()))
  assert [row["top1_seed1"] for row in rows] == ["0.8", "0.4"]
  line = (tmp_path / "work" / "table.md").read_text().split("| optim.lr_peak=1e-3 | ")[1].splitlines()[0]
  assert line.startswith("3 | 50.0 | 25.2 .. 74.8 | -35.0 | -56.5 .. -13.5 | 0.020 | 0.020 | 1,234 | 0.5 | 40 | 5.0 s")


def test_one_seed_is_compared_by_clips(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  """18 and 10 of 20 right, the 10 among the 18: 8 lost and none gained, p = 2 / 2^8."""
  trainer.right = {"baseline": (18,), "one_layer": (10,)}
  assert ablate("--seeds=1", "--only=one layer", "--config.model.hidden=(4,4)").code == 0
  found = load_ablation(tmp_path / "work").variants[1]
  assert found.difference is not None
  assert (found.difference.over, found.difference.pairs, found.difference.p) == ("clips", 20, pytest.approx(2 / 2**8))
  assert found.interval_kind == "Wilson, 20 clips of one seed"
  assert "says nothing of other seeds" in (tmp_path / "work" / "table.md").read_text()


def test_an_interrupted_ablation_goes_on_where_it_stopped(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  """The second of three groups is stopped: exit code 75; the same command trains it and the third. Then nothing."""
  arguments = ["--seeds=2", "--vary=model.hidden=(4,4),(8,)"]
  trainer.fails = {"model.hidden=_4_4": Interrupted("step 3")}
  assert ablate(*arguments).code == 75
  assert len(trainer.groups) == 2
  assert [v.mean for v in load_ablation(tmp_path / "work").variants] == [0.5, None, None]
  trainer.fails, trainer.groups = {}, []
  assert ablate(*arguments).code == 0
  assert trainer.groups == [[f"model.hidden={name}/seed{s}" for s in (0, 1)] for name in ("_4_4", "_8")]
  assert ablate(*arguments).code == 0
  assert len(trainer.groups) == 2


def test_failures_are_recorded_and_do_not_stop_the_rest(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  """A group that cannot be trained, a defect in another, a member that diverges; the first two are tried again."""
  arguments = ["--seeds=3", "--vary=model.hidden=(4,4),(8,),(6,)"]
  trainer.fails = {
    "model.hidden=_4_4": UserError("it does not fit into memory"),
    "model.hidden=_8": RuntimeError("no such thing"),
    "model.hidden=_6": "seed1",
  }
  ended = ablate(*arguments)
  assert ended.code == 0, ended.err
  base, memory, defect, diverged = load_ablation(tmp_path / "work").variants
  assert base.mean == 0.5
  assert set(memory.failed.values()) == {"it does not fit into memory"}
  assert "RuntimeError: no such thing" in defect.failed[0]
  assert "RuntimeError" in (tmp_path / "work" / "groups" / "02.traceback").read_text()
  assert (diverged.failed, sorted(diverged.scores)) == ({1: "loss is not finite"}, [0, 2])
  assert "model.hidden=(6,), failed with seed 1: loss is not finite" in ended.out
  trainer.fails, trainer.groups = {}, []
  assert ablate(*arguments).code == 0
  assert [group[0] for group in trainer.groups] == ["model.hidden=_4_4/seed0", "model.hidden=_8/seed0"]


def test_groups_too_large_for_the_memory_are_made_smaller(ablate, trainer: Trainer):
  arguments = ["--seeds=3", "--vary=model.hidden=(4,4)"]
  trainer.fails = {"model.hidden=_4_4": UserError("it does not fit into memory")}
  assert ablate(*arguments).code == 0
  trainer.fails, trainer.groups = {}, []
  assert ablate(*arguments, "--batch=2").code == 0
  assert trainer.groups == [["model.hidden=_4_4/seed0", "model.hidden=_4_4/seed1"], ["model.hidden=_4_4/seed2"]]


def test_all_failed_is_an_error(ablate, trainer: Trainer):
  trainer.fails = {"baseline": UserError("no data")}
  ended = ablate("--vary=optim.lr_peak=1e-3")
  assert (ended.code, "all 6 runs failed; the first one: no data" in ended.err) == (2, True)


def test_more_seeds_and_variants_join_and_another_baseline_does_not(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  assert ablate("--seeds=1", "--vary=optim.lr_peak=1e-3").code == 0
  assert ablate("--seeds=2", "--vary=model.hidden=(8,)").code == 0
  assert trainer.groups[1:] == [["baseline/seed1"], ["model.hidden=_8/seed0", "model.hidden=_8/seed1"]]
  assert [len(v.scores) for v in load_ablation(tmp_path / "work").variants] == [2, 1, 2]
  ended = ablate("--seeds=1", "--vary=model.hidden=(8,)", "--config.train.steps=7")
  assert (ended.code, "train.steps: 6 there, 7 here" in ended.err) == (2, True)


HOLDER = """
import pathlib, sys
from vu_jax.data.claims import Claims
claims = Claims(pathlib.Path(sys.argv[1]))
print(claims.take(0), flush=True)
sys.stdin.readline()
"""


def test_work_is_shared_with_other_processes(ablate, trainer: Trainer, tmp_path: pathlib.Path, monkeypatch):
  """The first group is another's, which then dies: it is left for last, and taken over."""
  work = tmp_path / "work"
  work.mkdir()
  holder = subprocess.Popen(
    [sys.executable, "-c", HOLDER, str(work / "claims")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  assert holder.stdout is not None
  assert holder.stdout.readline() == "True\n"
  monkeypatch.setattr(experiments.ablations.work.time, "sleep", lambda s: holder.communicate("\n"))
  ended = ablate("--seeds=1", "--vary=model.hidden=(8,)")
  assert ended.code == 0, ended.err
  assert trainer.groups == [["model.hidden=_8/seed0"], ["baseline/seed0"]]
  assert "0 of 2 done, 2 running" in ended.out


def test_dry_run_writes_nothing(ablate, trainer: Trainer, tmp_path: pathlib.Path):
  ended = ablate("--dry_run", "--vary=model.hidden=(8,)")
  assert (ended.code, trainer.groups, (tmp_path / "work").exists()) == (0, [], False)
  assert "2 variants x 3 seeds = 6 runs" in ended.out
