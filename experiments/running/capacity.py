"""What a run would need on a cluster that is not at hand, from figures measured here. The formulae: DESIGN.md.

Pure arithmetic; `launch --plan=CHIPS,CLIPS` measures, calls it and prints the table.
"""

from dataclasses import dataclass

from experiments.running.preflight import SPARE
from vu_jax.errors import UserError

_TRAINING = 3  # a training step computes about three times what a forward pass does: forward, inputs, kernels


@dataclass(frozen=True)
class Chip:
  """An accelerator: dense bfloat16 operations per second, and bytes of memory, by its maker's data sheet."""

  flops: float
  memory: float


CHIPS = {
  "a100": Chip(312e12, 80e9),
  "h100": Chip(989e12, 80e9),
  "h200": Chip(989e12, 141e9),
  "tpu-v4": Chip(275e12, 32e9),
  "tpu-v5e": Chip(197e12, 16e9),
  "tpu-v5p": Chip(459e12, 95e9),
  "tpu-v6e": Chip(918e12, 32e9),
}


@dataclass(frozen=True)
class Cluster:
  """The cluster and the data that are asked for.

  Fields:
    chips: accelerators in all. clips: in the training set. chip: what they are.
    mfu: share of the chip's peak that the step is assumed to reach; measure it on one chip and give it.
    write_bytes_s: rate at which one host writes its part of a checkpoint. chips_per_host: 8 is usual.
  """

  chips: int
  clips: int
  chip: Chip
  mfu: float = 0.3
  write_bytes_s: float = 500e6
  chips_per_host: int = 8


@dataclass(frozen=True)
class Measured:
  """What was measured here.

  Fields:
    stored_bytes: of one clip's record. decoded_per_core_s: clips that one core reads, decodes and augments per second.
    forward_flops: of one clip. state_bytes, shardable_bytes: of the training state, and of its arrays above
      `mesh.shard_min_size`. gradient_bytes: of the gradients.
    clip_bytes: that each clip of a batch adds to the memory of the step.
    clips_per_chip: of a step; those of one device here. epochs: of the run.
  """

  stored_bytes: float
  decoded_per_core_s: float
  forward_flops: float
  state_bytes: float
  shardable_bytes: float
  gradient_bytes: float
  clip_bytes: float
  clips_per_chip: int
  epochs: float


@dataclass(frozen=True)
class Needs:
  """What the run needs there.

  Fields:
    store_bytes: of the prepared training set. clips_per_s: of the whole cluster, if nothing holds it back.
    read_bytes_s, cores_per_chip: that keep a host's disk and a chip's loader level with it.
    fsdp: the smallest group of chips that holds one copy of the state so that a step fits; 0 = none does.
    memory: bytes per chip with that group. fitting_clips: that one chip could hold.
    checkpoint_bytes, checkpoint_s: size, and time for every host to write its part.
    batch_size: of all chips. epoch_hours, hours: of one epoch, and of the whole run.
  """

  store_bytes: float
  clips_per_s: float
  read_bytes_s: float
  cores_per_chip: float
  fsdp: int
  memory: float
  fitting_clips: int
  checkpoint_bytes: float
  checkpoint_s: float
  batch_size: int
  epoch_hours: float
  hours: float


def needs(measured: Measured, cluster: Cluster) -> Needs:
  """The figures of a cluster; see the formulae in DESIGN.md."""
  per_chip_s = cluster.chip.flops * cluster.mfu / (_TRAINING * measured.forward_flops)
  clips_per_s = per_chip_s * cluster.chips
  hosts = max(cluster.chips / cluster.chips_per_host, 1)
  fsdp = smallest_group(measured, cluster)
  group = fsdp or cluster.chips
  epoch_hours = cluster.clips / clips_per_s / 3600
  room = cluster.chip.memory * SPARE - memory_per_chip(measured, group, 0)
  return Needs(
    store_bytes=cluster.clips * measured.stored_bytes,
    clips_per_s=clips_per_s,
    read_bytes_s=clips_per_s / hosts * measured.stored_bytes,
    cores_per_chip=per_chip_s / measured.decoded_per_core_s,
    fsdp=fsdp,
    memory=memory_per_chip(measured, group, measured.clips_per_chip),
    fitting_clips=max(int(room / max(measured.clip_bytes, 1)), 0),
    checkpoint_bytes=measured.state_bytes,
    checkpoint_s=measured.state_bytes / hosts / cluster.write_bytes_s,
    batch_size=measured.clips_per_chip * cluster.chips,
    epoch_hours=epoch_hours,
    hours=epoch_hours * measured.epochs,
  )


def memory_per_chip(measured: Measured, fsdp: int, clips: int) -> float:
  """Bytes on one chip: its part of state and gradients, what cannot be parted, and the clips' activations."""
  whole = measured.state_bytes - measured.shardable_bytes
  parted = measured.shardable_bytes + measured.gradient_bytes
  return whole + parted / fsdp + clips * measured.clip_bytes


def smallest_group(measured: Measured, cluster: Cluster) -> int:
  """The smallest power of two, dividing the chips, with which a step fits; 0 = none."""
  fsdp = 1
  while cluster.chips % fsdp == 0:
    if memory_per_chip(measured, fsdp, measured.clips_per_chip) <= cluster.chip.memory * SPARE:
      return fsdp
    fsdp *= 2
  return 0


def parse_plan(text: str, chip: str, mfu: float) -> Cluster:
  """Reads "256,10e6": chips and clips.

  Raises:
    UserError: it is something else, or the chip is not known.
  """
  try:
    chips, clips = (float(part) for part in text.split(","))
    if not (chips == int(chips) > 0 and clips == int(clips) > 0 and 0 < mfu <= 1):
      raise ValueError
  except ValueError as error:
    raise UserError(
      f"--plan={text} --mfu={mfu}: must be CHIPS,CLIPS, whole numbers such as 256,10e6, and a share of the peak 0..1"
    ) from error
  if chip not in CHIPS:
    raise UserError(f"--chip={chip}: not known; known are {', '.join(CHIPS)}")
  return Cluster(int(chips), int(clips), CHIPS[chip], mfu)


def table(measured: Measured, cluster: Cluster) -> list[tuple[str, str]]:
  """The needs as (name, text), with what they were computed from."""
  need = needs(measured, cluster)
  state = f"{_size(measured.state_bytes)} of state, {_size(measured.clip_bytes)} per clip"
  if need.fsdp:
    memory = f"{_size(need.memory)} of {_size(cluster.chip.memory)} with mesh.fsdp={need.fsdp} ({state}); "
    memory += f"up to {need.fitting_clips} clips per chip"
  else:
    memory = f"does not fit: {_size(need.memory)} of {_size(cluster.chip.memory)} with mesh.fsdp={cluster.chips} "
    memory += f"({state}); use train.accumulate, model.remat or fewer clips per chip"
  return [
    ("store", f"{_size(need.store_bytes)} for {cluster.clips:,} clips of {_size(measured.stored_bytes)}"),
    ("speed", f"{need.clips_per_s:,.0f} clips/s at {cluster.mfu:.0%} of the peak (assumed: --mfu)"),
    ("reading", f"{_size(need.read_bytes_s)}/s per host of {cluster.chips_per_host} chips"),
    (
      "decoding",
      f"{need.cores_per_chip:,.1f} cores per chip, at {measured.decoded_per_core_s:,.1f} clips/s per core here",
    ),
    ("memory", memory),
    (
      "checkpoint",
      f"{_size(need.checkpoint_bytes)}, {need.checkpoint_s:,.1f} s at {_size(cluster.write_bytes_s)}/s per host",
    ),
    ("batch", f"{need.batch_size:,} clips in all, {measured.clips_per_chip} per chip as here"),
    (
      "time",
      f"{need.epoch_hours:,.2f} h per epoch, {need.hours:,.1f} h for the {measured.epochs:,.1f} epochs of this config",
    ),
  ]


def _size(count: float) -> str:
  for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
    if count < 1024 or unit == "TiB":
      return f"{count:,.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    count /= 1024
  raise AssertionError("unreachable")
