"""What all tests share: a CPU that compiles quickly, checked shapes, and data to test on."""

import os
import pathlib

import jaxtyping
import pytest
from hypothesis import settings

# Both are read when jax is first imported, which nothing above does.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
  filter(None, [os.environ.get("XLA_FLAGS"), "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"])
)
# From here on every signature of the package is checked when it is called, shapes included.
jaxtyping.install_import_hook("vu_jax", "typecheck.check")

settings.register_profile("vu_jax", max_examples=100, deadline=None, derandomize=True)
settings.load_profile("vu_jax")


@pytest.fixture(scope="session")
def tiny_motion(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The motion dataset, prepared: 24 training, 10 validation and 18 test clips of 8 frames of 32x32 px."""
  from vu_jax.data.builders.motion import Options
  from vu_jax.data.prepare import prepare

  options = Options(num_train=24, num_validation=10, num_test=18, size_px=32, num_frames=8, lifetime_f=4)
  return prepare("motion", options, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """The folder of real data beside the checkout; skips without it, except in CI, where its absence is a failure."""
  folder = pathlib.Path(__file__).parents[2] / "shared" / "data"
  if not folder.is_dir():
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs the real data in {folder}")
  return folder
