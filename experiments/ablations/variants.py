"""What an ablation compares: names and values become overrides, and those become checked experiments.

A variant is the baseline's config with some values typed beside it, as on the command line, so that each of its runs is
an ordinary one: `--config=FILE --config.KEY=VALUE ...` says all of it.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from experiments.groups.members import ORDER_SEED, SEED
from experiments.running.assemble import NAMED, Experiment, assemble
from vu_jax.build import Section, nearest
from vu_jax.config import beside, diff, digest, find_module, flat, load, split_values, text_of
from vu_jax.errors import UserError
from vu_jax.report.ablation import BASELINE

Overrides: TypeAlias = dict[str, str]  # dotted key -> typed text
Values: TypeAlias = dict[str, Any]  # dotted key -> value
_LONGEST = 80  # letters of a folder's name


@dataclass(frozen=True)
class Variant:
  """One line of the table.

  Fields:
    overrides: all that is typed beside the config, for the first seed.
    experiment: with the first seed.
    changes: dotted key -> (value of the baseline, value here), of the resolved configs; None = no such key.
  """

  name: str
  overrides: Overrides
  experiment: Experiment
  changes: dict[str, tuple[Any, Any]]

  @property
  def folder(self) -> str:
    """The name, as a folder may be called."""
    short = re.sub(r"[^\w.=+-]+", "_", self.name).strip("_.")
    return short if 0 < len(short) <= _LONGEST else f"{short[:_LONGEST]}_{digest({'name': self.name})}"


def baseline(path: str, typed: Overrides) -> Variant:
  """The config itself; all runs share the order of its batches, so that seeds are pairs and may train together."""
  experiment = assemble(load(path, typed))
  loader = dataclasses.replace(experiment.loader, order_seed=experiment.order_seed)
  overrides = typed | {SEED: str(experiment.seed), ORDER_SEED: str(loader.order_seed)}
  return Variant(BASELINE, overrides, dataclasses.replace(experiment, loader=loader), {})


def named_values(path: str) -> dict[str, Values]:
  """The variants that the config file names in `get_ablations`; raises UserError if those are not names and values."""
  found = beside(path, "get_ablations")
  if found is None:
    return {}
  if not isinstance(found, Mapping) or not all(isinstance(v, Mapping) for v in found.values()):
    raise UserError(f"--config={path}: get_ablations() must return {{name: {{dotted key: value}}}}")
  return {str(name): dict(values) for name, values in found.items()}


def chosen(named: Mapping[str, Values], only: str) -> dict[str, Values]:
  """Those of a list such as "one layer,GRU"; raises UserError if there is none of that name."""
  names = [name.strip() for name in only.split(",")]
  for name in names:
    if name not in named:
      known = ", ".join(named) or "none; give some with --vary"
      raise UserError(f'--only: no variant "{name}"{nearest(name, list(named))} (there are: {known})')
  return {name: named[name] for name in names}


def varied_values(texts: Sequence[str], cross: bool) -> dict[str, Values]:
  """One variant per value of each KEY=a,b,c; with `cross` one per combination.

  Raises:
    UserError: a text of another form, or the same key or value twice.
  """
  axes: dict[str, list[str]] = {}
  for text in texts:
    key, equals, rest = text.partition("=")
    values = split_values(rest)
    if not (key and equals and all(values)):
      raise UserError(f"--vary={text}: must be KEY=VALUE,VALUE,..., such as --vary=model.name=frame_cnn,cnn_rnn")
    if key in axes:
      raise UserError(f"--vary={text}: {key} is given twice; write all of its values in one")
    axes[key] = values
  singles = [[(key, value) for value in values] for key, values in axes.items()]
  rows = itertools.product(*singles) if cross else ((pair,) for axis in singles for pair in axis)
  found: dict[str, Values] = {}
  for row in rows:
    name = " ".join(f"{key}={value}" for key, value in row)
    if name in found:
      raise UserError(f"--vary: {name} is given twice")
    found[name] = dict(row)
  return found


def variant_of(path: str, base: Variant, name: str, values: Mapping[str, Any]) -> Variant:
  """Raises UserError, which names the variant, if its config cannot be had of this baseline."""
  if SEED in values:
    raise UserError(f'variant "{name}": seeds are given by --seeds and --config.seed; leave out {SEED}')
  try:
    overrides = merged(load(path, base.overrides), base.overrides, values)
    experiment = assemble(load(path, overrides))
  except UserError as error:
    raise UserError(f'variant "{name}": {error}') from None
  return Variant(name, overrides, experiment, diff(base.experiment.resolved(), experiment.resolved()))


def merged(config: ConfigDict, typed: Overrides, values: Mapping[str, Any]) -> Overrides:
  """What is typed beside a config for a variant of it.

  Another `model.name` is another model as a whole: it begins with its own defaults, and takes over what the config
  gives for keys that both have (so for task and data).

  Args:
    config: of the baseline. typed: what was typed beside it. values: of the variant.
  """
  texts = {key: text_of(value) for key, value in values.items()}
  for kind, attribute in NAMED.items():
    name = texts.pop(f"{kind}.name", None)
    section: Section = config.get(kind, {})
    if name is None or name == section.get("name"):
      continue
    cls = getattr(find_module(kind, name), attribute)
    keys = {f.name for f in dataclasses.fields(cls)} - {"name", "parent"}
    kept = {f"{kind}.{key}": text_of(value) for key, value in section.items() if key in keys}
    typed = {key: text for key, text in typed.items() if not key.startswith(f"{kind}.")}
    typed = {**typed, kind: name, **kept}
  return typed | texts


def check_variants(base: Variant, variants: Sequence[Variant]) -> None:
  """Raises UserError if one changes nothing, two are equal, or two would have one folder."""
  seen: dict[str, Variant] = {digest(base.experiment.resolved()): base}
  folders = {base.folder.lower(): base}
  for variant in variants:
    same = seen.setdefault(digest(variant.experiment.resolved()), variant)
    if same is base:
      given = ", ".join(f"{key} = {text}" for key, text in own(base, variant).items()) or "it gives no values"
      raise UserError(f'variant "{variant.name}" changes nothing: the baseline is the same ({given})')
    if same is not variant:
      raise UserError(f'variants "{same.name}" and "{variant.name}" are the same: remove one of them')
    other = folders.setdefault(variant.folder.lower(), variant)
    if other is not variant:
      raise UserError(f'variants "{other.name}" and "{variant.name}" have the same name: rename one of them')


def own(base: Variant, variant: Variant) -> Overrides:
  """What is typed for the variant beyond the baseline."""
  return {key: text for key, text in variant.overrides.items() if base.overrides.get(key) != text}


def seeded(path: str, variant: Variant, seed: int) -> tuple[Overrides, Experiment]:
  """The variant with another seed: what is typed for it, and the experiment."""
  overrides = variant.overrides | {SEED: str(seed)}
  other = flat(load(path, overrides)) | {SEED: 0}
  if other == flat(load(path, variant.overrides)) | {SEED: 0}:
    return overrides, dataclasses.replace(variant.experiment, seed=seed)  # assembling takes a second
  return overrides, assemble(load(path, overrides))
