"""The machine that something is measured on: what it is, and whether others use it meanwhile."""

import importlib.metadata
import importlib.util
import os
import platform
import time
from typing import Any

import jax

VERSIONED = ("vu_jax", "jax", "jaxlib", "flax", "numpy", "torch")


def machine() -> dict[str, Any]:
  """What a measurement ran on: processor, accelerator, cores, XLA's settings, and versions of what took part."""
  device = jax.devices()[0]
  return {
    "backend": jax.default_backend(),
    "cpu": cpu_name(),
    "cores": cores(),
    "accelerator": "" if device.platform == "cpu" else f"{device.device_kind} x{jax.device_count()}",
    "python": platform.python_version(),
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "versions": {name: importlib.metadata.version(name) for name in VERSIONED if importlib.util.find_spec(name)},
  }


def cores() -> int:
  """Processor cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
  """The processor's name where the system tells it, else its architecture."""
  try:
    with open("/proc/cpuinfo") as file:
      names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
  except OSError:
    names = []
  return names[0] if names else platform.processor() or platform.machine()


class Others:
  """How much of the processor others take meanwhile; torch, whose threads wait for each other, suffers most from it."""

  def __init__(self) -> None:
    self._begun = _busy_s()

  def share(self) -> float | None:
    """Fraction 0..1 of all cores since the start; None where the system does not tell, or some cores are not for us."""
    if self._begun is None or (ended := _busy_s()) is None:
      return None
    wall_s, all_s, own_s = (after - before for after, before in zip(ended, self._begun, strict=True))
    return min(max((all_s - own_s) / (wall_s * cores()), 0.0), 1.0) if wall_s > 0 else 0.0


def _busy_s() -> tuple[float, float, float] | None:
  """Seconds so far: on the clock, busy (or taken by other machines) on all cores, and ours."""
  if not os.path.exists("/proc/stat") or cores() != os.cpu_count():
    return None
  with open("/proc/stat") as file:
    user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
  busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
  return time.perf_counter(), busy, time.process_time()
