"""Checkpoints: which ones stay, what they say of themselves, and what happens when the disk fails them."""

import json
import math
import pathlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.checkpoint.contents import read_about
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.checkpoint.scores import Best, kept, waited
from vu_jax.errors import UserError


class Numbers(Iterator[int]):
  """A data iterator: 0, 1, 2, ..."""

  def __init__(self) -> None:
    self.at = 0

  def __next__(self) -> int:
    self.at += 1
    return self.at - 1

  def get_state(self) -> dict[str, int]:
    return {"next_index": self.at}

  def set_state(self, state: dict[str, int]) -> None:
    self.at = state["next_index"]


def state_at(step: int, width: int = 300) -> dict[str, Any]:
  params = {"backbone": {"kernel": jnp.full((width, 10), step + 0.5)}, "head": {"bias": jnp.full(3, float(step))}}
  return {"step": jnp.array(step), "params": params, "key": jax.random.key(step)}


def save(run: pathlib.Path, scores: dict[int, float | None], metric: str = "top1", **options: Any) -> None:
  """Checkpoints at these steps, evaluated where there is a score."""
  checkpoints, batches = Checkpoints(run, **options), Numbers()
  for step, score in scores.items():
    batches.at = step
    checkpoints.save(step, state_at(step), batches, {"sums": {"loss": [step / 3, 1.0]}})
    if score is not None:
      checkpoints.score(step, {metric: score})
  checkpoints.close()


def names(run: pathlib.Path, folder: str = "checkpoints") -> list[str]:
  return sorted(p.name for p in (run / folder).glob("step_*"))


def test_newest_and_best_stay(tmp_path: pathlib.Path):
  """Five saves leave the two newest and the best; restoring takes the newest, with the data position of then."""
  save(tmp_path, {1: 0.1, 2: 0.9, 3: 0.2, 4: None, 5: 0.4})
  assert names(tmp_path) == ["step_2", "step_4", "step_5"]
  again, batches = Checkpoints(tmp_path), Numbers()
  state = again.restore(state_at(0), batches)
  np.testing.assert_array_equal(state["params"]["backbone"]["kernel"], 5.5)
  assert jax.random.key_data(state["key"]).tolist() == jax.random.key_data(jax.random.key(5)).tolist()
  assert next(batches) == 5
  assert again.progress == {"sums": {"loss": [5 / 3, 1.0]}}
  assert again.scores == {1: {"top1": 0.1}, 2: {"top1": 0.9}, 3: {"top1": 0.2}, 5: {"top1": 0.4}}
  again.close()


@pytest.mark.parametrize(
  ("best", "figures", "order"),
  [
    (Best(), {1: {"loss": 3.0, "top1": 0.2}, 2: {"loss": 5.0, "top1": 0.4}}, [2, 1]),
    (Best(), {1: {"loss": 3.0}, 2: {"loss": 5.0}, 3: {"loss": 1.0}}, [3, 1, 2]),
    (Best("loss"), {1: {"loss": math.nan, "top1": 1.0}, 2: {"loss": 5.0, "top1": 0.0}}, [2, 1]),
    (Best("top1"), {3: {"top1": 0.5}, 1: {"top1": 0.5}, 2: {"top1": 0.1}}, [1, 3, 2]),
    (Best("delay", "lowest"), {1: {"delay": 2.0}, 2: {"delay": 1.0}}, [2, 1]),
    (Best("word_error"), {1: {"word_error": 2.0}, 2: {"word_error": 1.0}}, [2, 1]),
  ],
)
def test_what_is_best(best, figures, order):
  """top1 where there is one, else the lowest loss; of equal ones the earlier; what is no number is last."""
  assert best.ranked(figures) == order


def test_a_metric_that_does_not_exist():
  with pytest.raises(UserError, match=r'best_metric = "map": the evaluation gives no map \(it gives loss, top1\)'):
    Best("map").name({"top1": 0.1, "loss": 2.0})


def test_kept_and_waited():
  """By hand: two newest, two best of those that exist; three evaluations since the best."""
  scores = {100: {"top1": 0.3}, 200: {"top1": 0.8}, 300: {"top1": 0.8}, 400: {"top1": 0.1}, 500: {"top1": 0.7}}
  assert kept([100, 300, 400, 450, 500], scores, Best(), 2, 2) == {300, 450, 500}
  assert kept([100, 300, 400], scores, Best(), 1, 0) == {400}
  assert waited(scores, Best()) == 3
  assert waited({}, Best()) == 0


def test_a_checkpoint_says_what_it_is(tmp_path: pathlib.Path):
  """Config, labels and arrays can be read without the run that it belongs to, and without us."""
  save(tmp_path, {7: None}, about={"config": {"seed": 3}, "labels": ["left", "right"]})
  about = read_about(tmp_path / "checkpoints" / "step_7")
  assert about["step"] == 7
  assert about["labels"] == ["left", "right"]
  assert about["config"] == {"seed": 3}
  assert about["arrays"]["params/backbone/kernel"] == ["float32", [300, 10]]


def cut(file: pathlib.Path) -> None:
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: pathlib.Path) -> None:
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


@pytest.mark.parametrize(
  ("damage", "pattern"),
  [
    (cut, "state/d/*"),
    (flip, "state/ocdbt.process_0/d/*"),
    (pathlib.Path.unlink, "state/manifest.ocdbt"),
    (cut, "about/metadata"),
    (pathlib.Path.unlink, "progress/metadata"),
  ],
)
def test_damaged_newest_checkpoint(damage, pattern, tmp_path: pathlib.Path):
  """The one before it is taken, with a warning; the damaged one is moved, not deleted, and can be made again."""
  save(tmp_path, {4: 0.5, 8: 0.6})
  damage(max((tmp_path / "checkpoints" / "step_8").glob(pattern), key=lambda p: p.stat().st_size))
  said: list[str] = []
  checkpoints, batches = Checkpoints(tmp_path, say=said.append), Numbers()
  assert checkpoints.restore(state_at(0), batches)["step"] == 4
  assert batches.at == 4
  assert checkpoints.scores == {4: {"top1": 0.5}}
  assert len(said) == 1
  assert "step_8 is damaged and is passed over" in said[0]
  assert "\n" not in said[0]
  assert (names(tmp_path), names(tmp_path, "damaged_checkpoints")) == (["step_4"], ["step_8"])
  checkpoints.save(8, state_at(8), batches)
  checkpoints.close()
  assert names(tmp_path) == ["step_4", "step_8"]


def test_no_checkpoint_can_be_read(tmp_path: pathlib.Path):
  """One line; everything stays where it is."""
  save(tmp_path, {4: None, 8: None})
  for file in (tmp_path / "checkpoints").glob("step_*/state/manifest.ocdbt"):
    file.unlink()
  before = sorted(tmp_path.rglob("*"))
  checkpoints = Checkpoints(tmp_path, say=lambda text: None)
  with pytest.raises(UserError, match=r"no checkpoint can be read \(tried those of steps 8, 4; nothing was deleted"):
    checkpoints.restore(state_at(0))
  checkpoints.close()
  assert sorted(tmp_path.rglob("*")) == before


def test_checkpoint_of_another_network(tmp_path: pathlib.Path):
  """The first arrays that differ are named; it is not taken for damage."""
  save(tmp_path, {4: None})
  checkpoints = Checkpoints(tmp_path, read_only=True)
  other = state_at(0, width=200)
  other["params"]["neck"] = jnp.zeros(2)
  with pytest.raises(
    UserError,
    match=r"step_4 is a checkpoint of another network: params/backbone/kernel is float32 \(300 10\) there, "
    r"float32 \(200 10\) here, params/neck is missing there",
  ):
    checkpoints.restore(other)
  checkpoints.close()
  assert names(tmp_path) == ["step_4"]


def test_unfinished_checkpoint_is_ignored(tmp_path: pathlib.Path):
  """What a kill during saving leaves behind is not taken for a checkpoint, and is no obstacle to saving again."""
  (tmp_path / "checkpoints" / "step_7.orbax-checkpoint-tmp").mkdir(parents=True)
  assert Checkpoints(tmp_path, read_only=True).latest() is None
  save(tmp_path, {7: None})
  assert "step_7" in names(tmp_path)


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
  """As on a full disk, no file can grow beyond so many bytes."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_noise(run: pathlib.Path, step: int) -> None:
  """A checkpoint of 360 kB, which compression cannot shrink."""
  checkpoints = Checkpoints(run)
  try:
    checkpoints.save(step, {**state_at(step), "noise": jax.random.normal(jax.random.key(0), (300, 300))}, Numbers())
  finally:
    checkpoints.close()


def test_disk_that_cannot_be_written(tmp_path: pathlib.Path):
  """One line that names the last whole checkpoint, which stays and can be restored."""
  save(tmp_path, {4: None})
  with small_files_only(50_000), pytest.raises(UserError, match="file too large; the checkpoint of step 4 is whole"):
    save_noise(tmp_path, 8)
  again = Checkpoints(tmp_path)
  assert again.latest() == 4
  assert again.restore(state_at(0))["step"] == 4
  again.close()


def test_read_only_changes_nothing(tmp_path: pathlib.Path):
  """A run that is evaluated is left as it is, also where its newest checkpoint is damaged."""
  save(tmp_path, {4: None, 8: None})
  cut(tmp_path / "checkpoints" / "step_8" / "about" / "metadata")
  before = sorted(tmp_path.rglob("*"))
  said: list[str] = []
  checkpoints = Checkpoints(tmp_path, say=said.append, read_only=True)
  assert checkpoints.restore(state_at(0))["step"] == 4
  checkpoints.close()
  assert len(said) == 1
  assert sorted(tmp_path.rglob("*")) == before
  assert json.loads((tmp_path / "checkpoints" / "step_4" / "crc32.json").read_text())
