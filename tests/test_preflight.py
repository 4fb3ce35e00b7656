"""Checks before step 1."""

import pathlib
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.running import preflight
from experiments.running.preflight import StepMemory, check_disk, check_memory, loader_rate, step_rate, verdict
from vu_jax.errors import UserError
from vu_jax.train.loop import Train

GIB = 2**30
STATE = {"kernel": jax.ShapeDtypeStruct((2**18,), jnp.float32)}  # 1 MiB


def test_what_does_not_fit_says_what_does() -> None:
  need = StepMemory(peak=41 * GIB, state=1 * GIB, limit=20 * GIB, clips=40)
  assert need.per_clip == GIB
  assert need.fitting_clips == 18  # 95 % of 20 GiB less the state
  with pytest.raises(UserError, match=r"41.0 GiB .* has 20.0 GiB.* at most 18 clips per device instead of 40"):
    check_memory(need, fsdp=1)
  with pytest.raises(UserError, match=r"mesh\.fsdp above 2"):
    check_memory(StepMemory(peak=41 * GIB, state=30 * GIB, limit=20 * GIB, clips=1), fsdp=2)


@pytest.mark.parametrize("need", [StepMemory(9, 1, 10, 2), StepMemory(0, 1, 10, 2), StepMemory(99, 1, 0, 2)])
def test_what_fits_or_is_unknown_passes(need: StepMemory) -> None:
  check_memory(need, fsdp=1)


def test_memory_of_a_real_step() -> None:
  mesh = jax.make_mesh((1,), ("data",))
  compiled = jax.jit(lambda x: (x @ x).sum()).lower(jnp.zeros((256, 256))).compile()
  state = {"x": jax.ShapeDtypeStruct((256, 256), jnp.float32), "key": jax.eval_shape(lambda: jax.random.key(0))}
  need = preflight.step_memory(compiled, state, batch_size=4, mesh=mesh)
  assert need.state == 256 * 256 * 4 + 4
  assert need.peak >= 256 * 256 * 4
  assert need.clips == 4
  assert need.limit > GIB


def test_full_disk_is_one_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  options = Train(keep=2, keep_best=1)
  assert check_disk(tmp_path / "new" / "run", STATE, options) == 4 * 2**20
  monkeypatch.setattr(shutil, "disk_usage", lambda place: types.SimpleNamespace(free=3 * 2**20))
  with pytest.raises(UserError, match=r"need 4 MiB .*\(1 MiB each\).* 3 MiB are free"):
    check_disk(tmp_path, STATE, options)


def test_rates_and_verdict() -> None:
  closed = []

  class Batches:
    def __init__(self) -> None:
      self.given = 0

    def __iter__(self) -> "Batches":
      return self

    def __next__(self) -> dict[str, np.ndarray]:
      self.given += 1
      return {"mask": np.ones(8)}

    def close(self) -> None:
      closed.append(self.given)

  assert loader_rate(Batches()) > 0
  assert closed == [4]
  assert step_rate(lambda state, batch: (state + 1, None), jnp.zeros(()), {"mask": np.ones(8)}) > 0
  assert verdict(30.0, 120.0).startswith("decode-bound: the device would wait 75%")
  assert verdict(120.0, 30.0).startswith("compute-bound")
