"""What a model is made of: parameters, operations and activation memory per stage, for any clip size.

python -m experiments.summary resnet3d --preset=r2plus1d_18 --clip=16x112x112 [--classes=400] [--depth=2]
python -m experiments.summary --config=configs/motion_convlstm.py [--config.model.KEY=VALUE]
python -m experiments.summary          # all models and their presets

Nothing is computed: the model is traced.
"""

from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from experiments.cli import Arguments, console, run
from experiments.running.assemble import assemble, with_preset
from vu_jax.build import build
from vu_jax.config import find_module, load, names
from vu_jax.cost import Stage, stages
from vu_jax.errors import UserError


def main() -> None:
  parser = Arguments(prog="experiments.summary", description=__doc__.splitlines()[0])
  parser.add_argument("model", nargs="?", help="file of vu_jax/models, or a dotted path")
  parser.add_argument("--preset", help="one of the model's PRESETS")
  parser.add_argument(
    "--config", metavar="FILE", help="experiment file instead of a model; --config.KEY=VALUE overrides"
  )
  parser.add_argument("--clip", metavar="TxHxW", help="size of the clip (default: 16x224x224, or the config's)")
  parser.add_argument("--classes", type=int, default=400, help="of the classifier behind the model (default: 400)")
  parser.add_argument("--depth", type=int, default=2, help="levels of modules to show (default: 2)")
  args, overrides = parser.read()
  screen = console()
  if args.config and args.model:
    raise UserError("give a model or --config, not both")
  if not (args.config or args.model):
    return show_all(screen)
  if args.config:
    experiment = assemble(load(args.config, overrides))
    title, model = f"{args.config}: {experiment.names['model']}", experiment.model
    usual = (experiment.clip.num_frames, experiment.pixels.crop, experiment.pixels.crop)
  else:
    title, model, usual = (
      " ".join(filter(None, (args.model, args.preset))),
      named(args.model, args.preset),
      (16, 224, 224),
    )
  clip = parse_clip(args.clip) if args.clip else usual
  if args.classes < 1 or args.depth < 0:
    raise UserError("--classes must be at least 1 and --depth at least 0")
  show(title, clip, args.classes, described(model, clip, args.depth), screen)


def named(name: str, preset: str | None) -> Any:
  """The model of a file, with the values of a preset."""
  module = find_module("model", name)
  section = {"preset": preset} if preset else {}
  return build(module.Model, with_preset(section, getattr(module, "PRESETS", {})), "model")


def parse_clip(text: str) -> tuple[int, int, int]:
  """16x224x224 -> (16, 224, 224); raises UserError if it is no such text."""
  parts = text.split("x")
  if len(parts) != 3 or not all(p.isdecimal() and int(p) > 0 for p in parts):
    raise UserError(f"--clip={text}: must be frames x height x width, such as 16x224x224")
  return int(parts[0]), int(parts[1]), int(parts[2])


def described(model: Any, clip: tuple[int, int, int], depth: int) -> list[Stage]:
  """The stages of a model for one clip; raises UserError if it cannot take it."""
  channels = 3
  try:
    return stages(model, jax.ShapeDtypeStruct((1, *clip, channels), jnp.float32), depth, train=False)
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise UserError(
      f"the model cannot take clips of {'x'.join(map(str, clip))}: {str(error).splitlines()[0]}"
    ) from error


def show(title: str, clip: tuple[int, int, int], classes: int, found: list[Stage], screen: Console) -> None:
  """Prints the table, and the totals with a linear classifier behind."""
  table = Table(title=f"{title}, one clip of {clip[0]} frames of {clip[1]}x{clip[2]} px")
  for column in ("module", "output", "parameters", "GFLOP", "activations (MiB)"):
    table.add_column(column, justify="left" if column == "module" else "right")
  for stage in found[1:]:
    table.add_row(stage.path, "x".join(map(str, stage.shape[1:])), *_numbers(stage))
  total = found[0]
  table.add_section()
  table.add_row("features", "", *_numbers(total))
  screen.print(table)
  width = total.shape[-1]
  screen.print(f"with a classifier of {classes} classes: {total.parameters + (width + 1) * classes:,} parameters")
  screen.print("a multiply-add is two operations; elementwise work is not counted")


def show_all(screen: Console) -> None:
  """Lists every model, what it is and its presets."""
  table = Table(title="models")
  for column in ("name", "what", "presets"):
    table.add_column(column)
  for name in names("model"):
    module = find_module("model", name)
    table.add_row(name, (module.__doc__ or "").splitlines()[0], ", ".join(getattr(module, "PRESETS", {})))
  screen.print(table)


def _numbers(stage: Stage) -> tuple[str, str, str]:
  return f"{stage.parameters:,}", f"{stage.flops / 1e9:.3f}", f"{stage.activations / 2**20:.1f}"


if __name__ == "__main__":
  run(main)
