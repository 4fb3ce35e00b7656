"""The device mesh: batches are split over its data axis, the state is replicated."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vu_jax.errors import UserError


def data_mesh() -> Mesh:
  """All devices of all hosts on one axis, "data"."""
  return Mesh(np.array(jax.devices()), ("data",))


def split(mesh: Mesh) -> NamedSharding:
  """Leading dimension over the data axis."""
  return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def check_batch_size(devices: int, batch_size: int) -> None:
  """Raises UserError if the clips of a global batch do not divide over the devices."""
  if batch_size % devices:
    lower = batch_size // devices * devices
    raise UserError(
      f"config.loader.batch_size = {batch_size}: must be a multiple of the {devices} devices, "
      f"such as {lower or devices} or {lower + devices}"
    )


def to_devices(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Global arrays from this host's share of the batch; returns at once, the transfer runs in the background."""
  sharding = split(mesh)
  return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
