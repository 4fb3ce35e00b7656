"""How XLA is set up before the first computation."""

import ctypes
import importlib.util
import os
import sys

import jax
import jaxlib

_MEASURED = jaxlib.__version__.startswith("0.10.")  # what follows was measured there, and others may lack the flags
_YNN = {"--xla_cpu_experimental_ynn_fusion_type": "-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
_BARRIERS = {"--xla_disable_hlo_passes": "cse_barrier_expander"}  # holds for every backend, unlike the other

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of glibc's mallopt


def fast_cpu() -> None:
  """Sets up the CPU; call it before JAX computes anything. Programs do.

  Convolutions are left to Eigen instead of YNNPACK: 2 times faster forward, 2 to 5 times backward. And optimization
  barriers stay until the end, so that XLA does not fuse across them: the forward pass of X3D is 1.2 times as fast; only
  where JAX has no accelerator's plugin, as an accelerator's compiler needs the pass that is left out. A flag that
  XLA_FLAGS has already is left alone, and so are versions of jaxlib other than 0.10, which this was measured with and
  where XLA would abort on a flag that it lacks.

  Freed memory is kept: XLA allocates its temporary arrays anew in every call, and glibc would return the large ones to
  the system, which has to fill every page with zeros when it gives it out again.

  See decision 13 in DESIGN.md.
  """
  given = os.environ.get("XLA_FLAGS", "")
  if _MEASURED:
    flags = _YNN if accelerator_installed() else _YNN | _BARRIERS
    added = [f"{name}={value}" for name, value in flags.items() if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
  if mallopt is not None:
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def accelerator_installed() -> bool:
  """Whether a plugin for a GPU or TPU is; asking JAX for its devices would start XLA before the flags are set."""
  return any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))


def quick_compile() -> dict[str, bool | int]:
  """`compiler_options` of jit for what runs once: on the CPU it compiles quickly and runs slowly.

  The draws of the initial parameters of an S3D compile in a quarter of the time. See decision 41 in DESIGN.md.
  """
  if jax.default_backend() != "cpu" or not _MEASURED:
    return {}
  return {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
