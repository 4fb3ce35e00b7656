"""How XLA is set up before the first computation."""

import ctypes
import os
import sys

import jax
import jaxlib

_MEASURED = jaxlib.__version__.startswith("0.10.")  # what follows was measured there, and others may lack the flags
_YNN = "--xla_cpu_experimental_ynn_fusion_type"


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of glibc's mallopt


def fast_cpu() -> None:
  """Sets up the CPU; call it before JAX computes anything. Programs do.

  Convolutions are left to Eigen instead of YNNPACK: 2 times faster forward, 2 to 5 times backward. An XLA_FLAGS that
  decides this already is left alone, and so are versions of jaxlib other than 0.10, which it was measured with and
  where XLA would abort on a flag that it lacks.

  Freed memory is kept: XLA allocates its temporary arrays anew in every call, and glibc would return the large ones to
  the system, which has to fill every page with zeros when it gives it out again.

  See decision 13 in DESIGN.md.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if _YNN not in flags and _MEASURED:
    os.environ["XLA_FLAGS"] = f"{flags} {_YNN}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION".strip()
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
  if mallopt is not None:
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def quick_compile() -> dict[str, bool | int]:
  """`compiler_options` of jit for what runs once: on the CPU it compiles quickly and runs slowly.

  The draws of the initial parameters of an S3D compile in a quarter of the time. See decision 41 in DESIGN.md.
  """
  if jax.default_backend() != "cpu" or not _MEASURED:
    return {}
  return {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
