"""The device mesh: batches are split over all devices; large arrays of the state may be, too (FSDP)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero

AXES = ("data", "fsdp")


@dataclass(frozen=True, kw_only=True)
class Layout:
  """How devices hold the state. Results are the same to rounding, and a run may continue with another layout.

  Fields:
    fsdp: devices that hold one copy of parameters, optimizer state and average among them, with large arrays in parts;
      1 = every device holds a copy. It must divide the number of devices.
    shard_min_size: arrays with fewer values are held whole by every device.

  Source: "fully sharded data parallel", Zhao et al. 2023; ZeRO stage 3 of Rajbhandari et al. 2020.
  """

  fsdp: Count = 1
  shard_min_size: CountOrZero = 2**16


def device_mesh(layout: Layout = Layout(), devices: Sequence[jax.Device] | None = None) -> Mesh:
  """All devices of all hosts on the axes data x fsdp; neighbours on "fsdp" are of one host where that is possible.

  Raises:
    UserError: groups of `layout.fsdp` do not divide the devices.
  """
  found = jax.devices() if devices is None else devices
  if len(found) % layout.fsdp:
    fitting = [n for n in range(1, len(found) + 1) if len(found) % n == 0]
    raise UserError(
      f"config.mesh.fsdp = {layout.fsdp}: must divide the number of devices, {len(found)}; "
      f"possible here: {', '.join(map(str, fitting))}"
    )
  return Mesh(np.array(found).reshape(-1, layout.fsdp), AXES)


def split(mesh: Mesh) -> NamedSharding:
  """Leading dimension over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, shapes: Any, min_size: int) -> Any:
  """Where each array of a state lies, by its shape alone, so that parameters and their optimizer state lie alike."""
  parts = mesh.shape["fsdp"]
  return jax.tree.map(lambda s: NamedSharding(mesh, parted(s.shape, parts, min_size)), shapes)


def parted(shape: tuple[int, ...], parts: int, min_size: int) -> PartitionSpec:
  """The largest dimension that `parts` divides lies over "fsdp", the first of equal ones.

  Nothing does where none is divisible, or the array has fewer than `min_size` values.
  """
  fitting = [axis for axis, size in enumerate(shape) if size and size % parts == 0]
  if parts == 1 or not fitting or math.prod(shape) < min_size:
    return PartitionSpec()
  axis = max(fitting, key=lambda axis: shape[axis])
  return PartitionSpec(*[None] * axis, "fsdp")


def check_batch_size(devices: int, batch_size: int, parts: int = 1) -> None:
  """Raises UserError if a global batch does not divide into parts that divide over the devices."""
  share = parts * devices
  if batch_size % share:
    near = max(batch_size // share, 1) * share
    of = f"{parts} parts (config.train.accumulate) on {devices} devices" if parts > 1 else f"the {devices} devices"
    raise UserError(
      f"config.loader.batch_size = {batch_size}: must be a multiple of {of}, such as {near} or {near + share}"
    )


def to_devices(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Global arrays from this host's share of the batch; returns at once, the transfer runs in the background."""
  sharding = split(mesh)
  return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
