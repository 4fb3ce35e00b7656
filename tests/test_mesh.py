"""The mesh: the same numbers on 1, 2 and 4 devices, with the state whole and in parts; what divides."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vu_jax.errors import UserError
from vu_jax.train.mesh import Layout, device_mesh, parted


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
  """What the program `four_devices.py` printed."""
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
  program = [sys.executable, str(pathlib.Path(__file__).with_name("four_devices.py"))]
  done = subprocess.run(program, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, timeout=240)
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout)


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
  for key in ("losses", "logits", "mean"):
    np.testing.assert_allclose(a[key], b[key], rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("mesh", ["2", "2 fsdp", "4", "4 fsdp 2"])
def test_any_mesh_gives_the_numbers_of_one_device(found: dict[str, Any], mesh: str):
  """With batch norm, dropout and an average: statistics are those of the global batch, draws those of the clip."""
  assert_equal(found[mesh], found["1"])
  assert len(set(found["1"]["losses"])) == 4


def test_large_arrays_are_held_in_parts(found: dict[str, Any]):
  """A kernel, its momentum and its average lie alike: 8 columns over 2 devices, whole without an axis for them."""
  assert found["4 fsdp 2"]["held"] == [[3, 4]] * 3
  assert found["4"]["held"] == [[3, 8]] * 3


def test_parts_of_a_batch_are_the_same_on_any_mesh(found: dict[str, Any]):
  """Accumulated in two parts: one device and four agree. Batch norm sees parts, so the whole batch gives others."""
  assert_equal(found["4 fsdp 2 in 2 parts"], found["1 in 2 parts"])
  assert abs(found["1 in 2 parts"]["losses"][1] - found["1"]["losses"][1]) > 1e-4


def test_a_population_is_the_same_on_any_mesh(found: dict[str, Any]):
  """Four members, one on each device, or all on each with a share of the clips; the first is the run alone.

  Each device holds the kernels (3 8) of its members, or of all, with half of the columns.
  """
  on = found["population"]
  for name in ("4 members", "4 fsdp 2 clips"):
    np.testing.assert_allclose(on[name]["losses"], on["1"]["losses"], rtol=1e-5, err_msg=name)
  assert on["1"]["losses"][0] == pytest.approx(found["1"]["losses"][-1], rel=1e-5)
  assert len(set(on["1"]["losses"])) == 4
  assert [row["held"] for row in on.values()] == [[4, 3, 8], [1, 3, 8], [4, 3, 4]]


def test_a_run_continues_on_other_devices(found: dict[str, Any]):
  """Saved on four devices in parts; on one, two, and two that divide it, it goes on as if nothing had happened."""
  assert found["resumed"].keys() == {"1", "2", "2 fsdp"}
  for losses in found["resumed"].values():
    np.testing.assert_allclose(losses, found["1"]["losses"][2:], rtol=1e-5)


def test_the_largest_dimension_that_divides_is_parted():
  """By hand, for two and four parts; the first of equal ones; small and odd arrays stay whole."""
  whole = PartitionSpec()
  assert parted((3, 3, 64, 128), 2, 0) == PartitionSpec(None, None, None, "fsdp")
  assert parted((64, 64), 4, 0) == PartitionSpec("fsdp")
  assert parted((1000, 6), 4, 0) == PartitionSpec("fsdp")
  assert parted((999, 8), 4, 0) == PartitionSpec(None, "fsdp")
  assert parted((999, 7), 4, 0) == whole
  assert parted((64, 64), 4, 4097) == whole
  assert parted((64, 64), 1, 0) == whole
  assert parted((), 2, 0) == parted((0, 3), 3, 1) == whole


def test_devices_that_do_not_divide_are_refused():
  """One line that names what is possible."""
  with pytest.raises(UserError, match=r"config\.mesh\.fsdp = 4: must divide the number of devices, 6; .*: 1, 2, 3, 6$"):
    device_mesh(Layout(fsdp=4), [jax.devices()[0]] * 6)
