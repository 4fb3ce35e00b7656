"""What a cluster needs, by hand."""

import dataclasses

import pytest

from experiments.running.capacity import (
  CHIPS,
  Chip,
  Cluster,
  Measured,
  memory_per_chip,
  needs,
  parse_plan,
  smallest_group,
  table,
)
from vu_jax.errors import UserError

HERE = Measured(
  stored_bytes=1e6,
  decoded_per_core_s=50.0,
  forward_flops=1e11,
  state_bytes=13e9,
  shardable_bytes=12e9,
  gradient_bytes=4e9,
  clip_bytes=1e9,
  clips_per_chip=8,
  epochs=30.0,
)
CLUSTER = Cluster(chips=64, clips=10_000_000, chip=Chip(flops=1e15, memory=16e9), mfu=0.3)


def test_by_hand() -> None:
  need = needs(HERE, CLUSTER)
  assert need.store_bytes == 1e13
  assert need.clips_per_s == pytest.approx(64_000)  # 1e15 * 0.3 / 3e11 = 1000 per chip
  assert need.cores_per_chip == pytest.approx(20)
  assert need.read_bytes_s == pytest.approx(8e9)  # 8 hosts, 8000 clips of 1 MB each
  assert need.epoch_hours == pytest.approx(10_000_000 / 64_000 / 3600)
  assert need.hours == pytest.approx(30 * need.epoch_hours)
  assert need.batch_size == 512
  assert need.checkpoint_s == pytest.approx(13e9 / 8 / 500e6)


def test_memory_is_whole_and_parted_and_of_the_clips() -> None:
  assert memory_per_chip(HERE, 1, 8) == pytest.approx(1e9 + 16e9 + 8e9)
  assert memory_per_chip(HERE, 4, 8) == pytest.approx(1e9 + 4e9 + 8e9)
  # 95 % of 16 GB: 13 GB fit with four parts, 17 GB with two do not.
  assert smallest_group(HERE, CLUSTER) == 4
  assert needs(HERE, CLUSTER).fitting_clips == 10


def test_what_never_fits_is_said() -> None:
  large = dataclasses.replace(HERE, clip_bytes=3e9)
  assert smallest_group(large, CLUSTER) == 0
  assert "does not fit" in dict(table(large, CLUSTER))["memory"]
  assert "mesh.fsdp=4" in dict(table(HERE, CLUSTER))["memory"]


def test_groups_divide_the_chips() -> None:
  assert smallest_group(HERE, dataclasses.replace(CLUSTER, chips=6)) == 0  # two parts are too few, four do not divide


@pytest.mark.parametrize("text", ["256", "256,", "0,10", "2.5,10", "a,b", "1,2,3"])
def test_bad_plans_are_refused(text: str) -> None:
  with pytest.raises(UserError, match=r"CHIPS,CLIPS"):
    parse_plan(text, "h100", 0.3)


def test_plans_are_read() -> None:
  assert parse_plan("256,10e6", "tpu-v4", 0.4) == Cluster(256, 10_000_000, CHIPS["tpu-v4"], 0.4)
  with pytest.raises(UserError, match="known are"):
    parse_plan("1,1", "abacus", 0.3)
  with pytest.raises(UserError, match="peak"):
    parse_plan("1,1", "h100", 30.0)
