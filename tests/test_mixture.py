"""DATA: several datasets as one, in fixed shares."""

import pathlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.motion_frame_cnn import get_config
from experiments.cli import console
from experiments.running.assemble import assemble
from experiments.running.training_data import training_data
from vu_jax.data.joined import JoinedSource
from vu_jax.data.loader import train_batches
from vu_jax.data.prepare import prepare, read_facts
from vu_jax.errors import UserError


class Listed:
  """A source of nothing but labels."""

  def __init__(self, label_names: list[str], labels: list[int]):
    self.label_names, self._labels = label_names, labels

  def __len__(self) -> int:
    return len(self._labels)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {"label": self._labels[index], "id": f"{self.label_names[0]}{index}"}


def test_classes_of_one_name_are_one_class():
  """run, jump + swim, run: the first source keeps its labels, "run" of the second is 0, "swim" is new."""
  joined = JoinedSource([Listed(["run", "jump"], [0, 1, 1]), Listed(["swim", "run"], [0, 1])])
  assert joined.label_names == ["run", "jump", "swim"]
  assert [int(joined[i]["label"]) for i in range(5)] == [0, 1, 1, 2, 0]
  assert [joined[i]["id"] for i in (2, 3)] == ["run2", "swim0"]
  with pytest.raises(IndexError):
    joined[5]


def tiny(**extra: Any) -> ConfigDict:
  """The motion set in miniature, with further ones beside it."""
  config = get_config()
  config.data = ConfigDict(dict(name="motion", **TINY))
  config.clip.num_frames, config.pixels.short_side, config.pixels.crop = 4, 32, 32
  config.extra = ConfigDict(extra)
  return config


TINY = dict(num_train=8, num_validation=8, num_test=8, size_px=32, num_frames=8, lifetime_f=4)


def test_a_config_mixes_datasets_in_shares(tmp_path: pathlib.Path):
  """With weight 3, three of four training clips come from the extra dataset, whatever the sizes of both."""
  experiment = assemble(tiny(more=dict(name="motion", weight=3.0, **TINY | {"num_train": 16})))
  directory = prepare("motion", experiment.data, tmp_path)
  data = training_data(experiment, directory, read_facts(directory), tmp_path, console())
  assert data.num_clips == 24
  batches = train_batches(
    data.source, experiment.clip, experiment.pixels, experiment.loader, 0, labels=data.labels, order=data.order
  )
  drawn = Counter(bool(i >= 8) for _ in range(2) for i in np.asarray(next(batches)["index"]))
  assert drawn[True] == 3 * drawn[False]


@pytest.mark.parametrize(
  ("extra", "said"),
  [
    (dict(more=dict(weight=1.0)), "config.extra.more: must be a section"),
    (dict(more=dict(name="motion", weight=0.0)), "config.extra.more.weight"),
    (dict(more=dict(name="motion", wieght=1.0)), "config.extra.more.wieght: unknown key"),
    (dict(more=dict(name="motoin")), 'did you mean "motion"'),
  ],
)
def test_bad_sections(extra: dict[str, Any], said: str):
  with pytest.raises(UserError, match=said):
    assemble(tiny(**extra))


def test_other_orders_do_not_mix():
  config = tiny(more=dict(name="motion"))
  config.loader.order = "balanced"
  with pytest.raises(UserError, match=r"leave out loader\.order"):
    assemble(config)
