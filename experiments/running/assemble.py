"""A config becomes the typed parts of an experiment. No data is opened and no device is touched."""

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from experiments.running.extra import Extra, extra_datasets
from vu_jax.build import Section, build, check, nearest
from vu_jax.config import find_module, plain
from vu_jax.data.audio.window import Audio, num_samples
from vu_jax.data.augmentation.augment import Augment
from vu_jax.data.augmentation.device import recoloured
from vu_jax.data.clips import Clip
from vu_jax.data.loader import Loader
from vu_jax.data.protocol import Eval
from vu_jax.data.video.view import Pixels
from vu_jax.errors import UserError
from vu_jax.glossary import CountOrZero
from vu_jax.net import Net
from vu_jax.train.loop import Train
from vu_jax.train.mesh import Layout
from vu_jax.train.mix import Mix, mixed
from vu_jax.train.optim import Optim, optimizer
from vu_jax.train.param_groups import check_groups
from vu_jax.train.step import Alter, Batch, Steps, compile_steps

SECTIONS = (
  *("seed", "data", "extra", "clip", "pixels", "audio", "augment", "loader"),
  *("model", "task", "optim", "train", "mesh", "eval"),
)
NAMED = {"data": "Options", "model": "Model", "task": "Task"}
PLAIN = {
  "clip": Clip,
  "pixels": Pixels,
  "audio": Audio,
  "augment": Augment,
  "loader": Loader,
  "optim": Optim,
  "train": Train,
  "mesh": Layout,
  "eval": Eval,
}


@dataclass(frozen=True)
class Experiment:
  """The parts of one run; `names` holds the file names of data, model and task, `extra` further training data."""

  seed: int
  names: Mapping[str, str]
  data: Any
  extra: Mapping[str, Extra]
  clip: Clip
  pixels: Pixels
  audio: Audio
  augment: Augment
  loader: Loader
  model: nn.Module
  task: Any
  optim: Optim
  train: Train
  mesh: Layout
  eval: Eval

  def resolved(self) -> dict[str, Any]:
    """Every value of every part, defaults included: what `config.json` holds."""
    parts = {k: plain(getattr(self, k)) for k in SECTIONS}
    parts["extra"] = {k: other.resolved() for k, other in self.extra.items()}
    for kind, name in self.names.items():
      parts[kind] = {"name": name, **parts[kind]}
    del parts["task"]["num_classes"]  # the dataset's to say
    return parts

  def for_classes(self, num_classes: int) -> "Experiment":
    """The same experiment, with the task sized by the dataset's labels."""
    return dataclasses.replace(self, task=dataclasses.replace(self.task, num_classes=num_classes))

  @property
  def order_seed(self) -> int:
    """Of the training batches."""
    return self.seed if self.loader.order_seed < 0 else self.loader.order_seed

  def net(self) -> Net:
    frozen = "backbone" in self.optim.frozen  # as a whole
    return Net(self.model, self.task.head(), frozen, self.pixels.mean, self.pixels.std, self.pixels.seen)

  def alter(self) -> Alter | None:
    """What the training step does to a batch before the network sees it; None = nothing."""
    on = self.augment
    mix = Mix(self.task.num_classes, on.mixup_alpha, on.cutmix_alpha, on.cutmix_region, on.mix_frac)
    recolours = on.colour_on == "device" and on.recolours
    if not (recolours or mix.on):
      return None
    return partial(altered, on if recolours else None, mix if mix.on else None)

  def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch."""
    size, side = self.loader.batch_size, self.pixels.crop
    shape = jax.ShapeDtypeStruct
    sound = {}
    if self.audio.rate_hz:
      samples = shape((size, num_samples(self.audio, self.clip)), jnp.float32)
      sound = {"audio": samples, "audio_valid": shape((size, 2), jnp.int32)}
    return {
      "video": shape((size, self.clip.num_frames, side, side, 3), jnp.uint8),
      "label": shape((size,), jnp.int32),
      "index": shape((size,), jnp.int32),
      "mask": shape((size,), jnp.float32),
      **sound,
    }

  def variable_shapes(self) -> dict[str, Any]:
    """Shapes of all collections of the network, parameters among them; nothing is computed."""
    net = self.net()
    return dict(jax.eval_shape(lambda b: net.init(jax.random.key(0), b, train=False), self.batch_shapes()))

  def steps(self, mesh: Mesh) -> Steps:
    """Initialising, training and evaluating this network on the devices of a mesh."""
    return compile_steps(
      mesh,
      self.net(),
      self.task,
      optimizer(self.optim, self.train.steps),
      self.batch_shapes(),
      self.alter(),
      self.train.accumulate,
      self.train.ema_decay,
      self.mesh.shard_min_size,
    )

  def eval_loader(self) -> Loader:
    """Batches of evaluation: as large as the parts that training is computed in, so that they fit where those do."""
    size = self.loader.batch_size // self.train.accumulate
    return dataclasses.replace(self.loader, batch_size=size, order="shuffle")  # its order is that of the split


def assemble(config: Section) -> Experiment:
  """Builds every part, strictly.

  Args:
    config: a `ConfigDict`, or the dict of a run's config.json.

  Raises:
    UserError: a section or key that does not exist, a missing one, a wrong type or value, or a clip that the model
      cannot take.
  """
  for key in config:
    if key not in SECTIONS:
      known = ", ".join(SECTIONS)
      raise UserError(f"config.{key}: unknown section{nearest(key, list(SECTIONS))} (sections: {known})")
  parts: dict[str, Any] = {k: build(cls, _section(config, k), f"config.{k}") for k, cls in PLAIN.items()}
  names = {}
  for kind, attribute in NAMED.items():
    section = _section(config, kind)
    if not isinstance(section.get("name"), str):
      raise UserError(f'config.{kind}.name is missing: name a file, such as {kind} = dict(name="...")')
    names[kind] = str(section["name"])
    module = find_module(kind, names[kind])
    if not hasattr(module, attribute):
      raise UserError(f'config.{kind}.name = "{names[kind]}": {module.__name__} defines no {attribute}')
    cls = getattr(module, attribute)
    if kind == "model":
      section = with_preset(section, getattr(module, "PRESETS", {}))
    given = {"num_classes": 2} if kind == "task" else {}
    parts[kind] = build(cls, section, f"config.{kind}", **given)
  seed = check(config.get("seed", 0), CountOrZero, "config.seed")
  extra = extra_datasets(_section(config, "extra"), parts["loader"])
  experiment = Experiment(seed=seed, names=names, extra=extra, **parts)
  optimizer(experiment.optim, experiment.train.steps)
  check_mixing(experiment)
  check_shapes(experiment)
  return experiment


def with_preset(section: Section, presets: Mapping[str, Mapping[str, Any]]) -> Section:
  """The section with the values of the preset that it names; keys beside `preset` override them.

  Raises:
    UserError: the model has no such preset.
  """
  if "preset" not in section:
    return section
  name = str(section["preset"])
  if name not in presets:
    known = f"there are {', '.join(presets)}" if presets else "this model has none"
    raise UserError(f'config.model.preset = "{name}": no such preset{nearest(name, list(presets))} ({known})')
  return dict(presets[name]) | {k: v for k, v in section.items() if k != "preset"}


def altered(colours: Augment | None, mix: Mix | None, key: Any, batch: Batch) -> Batch:
  """A batch on the device: recoloured, then mixed; None = not."""
  colour_key, mix_key = jax.random.split(key)
  if colours is not None:
    batch = {**batch, "video": recoloured(colour_key, batch["video"], colours)}
  return batch if mix is None else mixed(mix_key, batch, mix)


def check_mixing(experiment: Experiment) -> None:
  """Raises UserError if clips are to be mixed that have sound, or for a task that knows hard labels only."""
  augment = experiment.augment
  mixes = augment.mixup_alpha > 0 or augment.cutmix_alpha > 0
  key = "mixup_alpha" if augment.mixup_alpha > 0 else "cutmix_alpha"
  if mixes and not getattr(experiment.task, "takes_soft_targets", False):
    raise UserError(
      f"config.augment.{key}: the loss of task {experiment.names['task']} takes no mixed targets; set it to 0"
    )
  if mixes and experiment.audio.rate_hz:
    raise UserError(f"config.augment.{key}: pictures are mixed, but not their sound; set it to 0, or audio.rate_hz")


def check_shapes(experiment: Experiment) -> None:
  """Traces the network on the configured clip without computing.

  Raises:
    UserError: it cannot take the clip, or has no parameters that a pattern of the optimizer matches.
  """
  try:
    check_groups(experiment.variable_shapes()["params"], experiment.optim)
  except UserError:
    raise
  except (TypeError, ValueError, ZeroDivisionError) as error:
    shape = experiment.batch_shapes()["video"].shape
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise UserError(
      f"model {experiment.names['model']} cannot take clips of {shape[1]} frames of {shape[2]}x{shape[3]} px "
      f"(config.clip.num_frames, config.pixels.crop): {reason}"
    ) from error


def _section(config: Section, name: str) -> Section:
  section = config.get(name, {})
  if not hasattr(section, "items"):
    raise UserError(f"config.{name} = {section!r}: must be a section of keys")
  return section


def launch_command(config: str, overrides: Mapping[str, str], workdir: str, *more: str) -> str:
  """What trains a run alone, to be pasted into a shell."""
  words = [f"--config={config}", *(f"--config.{key}={text}" for key, text in overrides.items())]
  return shlex.join(["python", "-m", "experiments.launch", *words, f"--workdir={workdir}", *more])


def run_name(config_path: str) -> str:
  """configs/x.py:large -> x_large: the default name of a run."""
  file, _, arg = config_path.partition(":")
  return pathlib.Path(file).stem + (f"_{arg}" if arg else "")
