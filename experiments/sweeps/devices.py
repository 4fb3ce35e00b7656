"""What each of several workers on one machine may use: cores, and GPUs where there are some."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

CUDA, MEMORY = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"
_MEMORY_FRAC = 0.9  # of a GPU, for all workers on it


@dataclass(frozen=True)
class Share:
  """Fields:
  cores: by their numbers.
  gpus: as CUDA_VISIBLE_DEVICES names them; () = none here.
  memory_frac: of these GPUs; 0 = as JAX likes.
  """

  cores: tuple[int, ...]
  gpus: tuple[str, ...] = ()
  memory_frac: float = 0.0

  def apply(self) -> None:
    """To this process, which must not have used JAX yet."""
    if hasattr(os, "sched_setaffinity"):
      os.sched_setaffinity(0, self.cores)
    if self.gpus:
      os.environ[CUDA] = ",".join(self.gpus)
    if self.memory_frac:
      os.environ[MEMORY] = f"{self.memory_frac:.3f}"

  def __str__(self) -> str:
    cores = f"{len(self.cores)} core{'s' if len(self.cores) > 1 else ''}"
    return f"{cores}, GPU {','.join(self.gpus)}" if self.gpus else cores


def shares(workers: int, cores: Sequence[int], gpus: Sequence[str]) -> list[Share]:
  """Equal ones; where there are more workers than cores or GPUs, several have the same."""
  by_core, by_gpu = _dealt(cores, workers), _dealt(gpus, workers)
  crowd = -(-workers // len(gpus)) if gpus else 1
  frac = _MEMORY_FRAC / crowd if crowd > 1 else 0.0
  return [Share(tuple(c), tuple(g), frac) for c, g in zip(by_core, by_gpu, strict=True)]


def _dealt(things: Sequence, workers: int) -> list[Sequence]:
  count = len(things)
  if not count:
    return [()] * workers
  if workers >= count:
    return [things[i % count : i % count + 1] for i in range(workers)]
  return [things[i * count // workers : (i + 1) * count // workers] for i in range(workers)]


def here() -> tuple[list[int], list[str]]:
  """Cores and GPUs that this process may use; JAX is not asked, as it would take hold of the GPUs."""
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return cores, []
  if CUDA in os.environ:
    return cores, [name.strip() for name in os.environ[CUDA].split(",") if name.strip()]
  return cores, [str(i) for i in range(len(glob.glob("/dev/nvidia[0-9]*")))]
