"""CONFIG: an experiment file and what was typed beside it become one config; its JSON, hash and difference.

`build.build` then turns each section into an object, strictly. Nothing below the programs reads a config.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import json
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from vu_jax.build import Text, kind_text, nearest, parse
from vu_jax.errors import UserError

PACKAGES = {"model": "vu_jax.models", "task": "vu_jax.tasks", "data": "vu_jax.data.builders"}


def load(path: str, overrides: Mapping[str, str]) -> ConfigDict:
  """Runs `get_config` of an experiment file and applies what was typed on the command line.

  Args:
    path: of the file; text after a colon is passed to `get_config`, as in `configs/x.py:large`.
    overrides: dotted key -> typed text, such as {"optim.lr_peak": "3e-4"}. A key that the file leaves out may be
      given too: `build` knows whether it exists. {"model": "s3d"} is another model with its own defaults, to which
      other overrides then apply (so for data and task).

  Raises:
    UserError: no such file, no usable `get_config` in it, or a text that cannot be a value of its key.
  """
  file, _, arg = path.partition(":")
  get_config = _get_config(pathlib.Path(file))
  if arg and not inspect.signature(get_config).parameters:
    raise UserError(f"--config={path}: its get_config() takes no argument; leave out :{arg}")
  config = get_config(arg) if arg else get_config()
  if not isinstance(config, ConfigDict):
    raise UserError(f"--config={file}: get_config() must return a ConfigDict, not {type(config).__name__}")
  config.unlock()
  for key in sorted(overrides, key=PACKAGES.__contains__, reverse=True):  # whole sections first
    _override(config, key, overrides[key])
  return config.lock()


def text_of(value: Any) -> str:
  """What the command line takes for a value: --config.KEY=TEXT; read back, it is the value again."""
  return value if isinstance(value, str) else repr(value)


def split_values(text: str, mark: str = ",") -> list[str]:
  """ "(8,16),(4,),x" -> ["(8,16)", "(4,)", "x"]: at marks that stand in no brackets or quotes."""
  parts, depth, quote = [""], 0, ""
  for letter in text:
    if quote:
      quote = "" if letter == quote else quote
    elif letter in "\"'":
      quote = letter
    else:
      depth += (letter in "([{") - (letter in ")]}")
    if letter == mark and not depth and not quote:
      parts.append("")
    else:
      parts[-1] += letter
  return [part.strip() for part in parts]


def beside(path: str, name: str) -> Any:
  """What another function of an experiment file returns, such as `get_ablations`; None if the file has none.

  Raises:
    UserError: no such file, or no `get_config` in it.
  """
  module = _module(pathlib.Path(path.partition(":")[0]))
  return getattr(module, name)() if hasattr(module, name) else None


def _get_config(file: pathlib.Path) -> Callable[..., ConfigDict]:
  return _module(file).get_config


def _module(file: pathlib.Path) -> types.ModuleType:
  if not file.is_file():
    near = nearest(file.stem, [f.stem for f in file.parent.glob("*.py")])
    raise UserError(f"--config={file}: no such file{near}")
  spec = importlib.util.spec_from_file_location(file.stem, file)
  if spec is None or spec.loader is None:
    raise UserError(f"--config={file}: not a Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise UserError(f"--config={file}: defines no get_config()")
  return module


def _override(config: ConfigDict, key: str, text: str) -> None:
  if key in PACKAGES:
    config[key] = ConfigDict({"name": str(text)})
    return
  *sections, last = key.split(".")
  for i, section in enumerate(sections):
    if section not in config:
      config[section] = ConfigDict()  # a file may leave out sections; `assemble` knows which there are
    if not isinstance(config.get(section), ConfigDict):
      known = [k for k, v in config.items() if isinstance(v, ConfigDict)]
      raise UserError(f"--config.{key}: there is no section {'.'.join(sections[: i + 1])}{nearest(section, known)}")
    config = config[section]
  if last in config and not isinstance(config[last], ConfigDict):
    kind = config.get_type(last)
    value = parse(text, kind, f"config.{key}")
    try:
      config[last] = value  # in place, so that references follow
    except TypeError:
      raise UserError(
        f"config.{key} = {text!r}: must be {kind_text(kind)}, as the config's own value {config[last]!r} is"
      ) from None
  elif last in config:
    raise UserError(
      f"--config.{key}: is a section; give one of its keys, such as --config.{key}.{next(iter(config[last]))}"
    )
  else:
    config[last] = Text(text)


def find_module(kind: str, name: str) -> types.ModuleType:
  """Imports the file that a config names: `model.name = "s3d"` means `vu_jax/models/s3d.py`.

  Args:
    kind: "model", "task" or "data".
    name: a file of that folder without its ending, or the dotted path of a module of the user's own.

  Raises:
    UserError: no such file; the nearest name and all names are given.
  """
  package = PACKAGES[kind]
  path = name if "." in name and not name.startswith(".") else f"{package}.{name}"
  try:
    return importlib.import_module(path)
  except ModuleNotFoundError as error:
    if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
      raise  # the file exists; something that it imports does not
    known = names(kind)
    raise UserError(
      f'config.{kind}.name = "{name}": no module {path}{nearest(name, known)} (there are {", ".join(known)})'
    ) from None


def names(kind: str) -> list[str]:
  """The names that `config.<kind>.name` may take: the files of that folder."""
  spec = importlib.util.find_spec(PACKAGES[kind])
  folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
  files = [f for folder in folders for f in pathlib.Path(folder).glob("*.py")]
  return sorted(f.stem for f in files if not f.stem.startswith("_"))


def plain(tree: Any) -> Any:
  """Nested dicts, lists and plain values of a config or of dataclasses, ready for JSON."""
  if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
    shown = [f.name for f in dataclasses.fields(tree) if f.init and f.name not in ("parent", "name")]
    return {k: plain(getattr(tree, k)) for k in shown}
  if isinstance(tree, Mapping) or hasattr(tree, "items"):
    return {str(k): plain(v) for k, v in tree.items()}
  if isinstance(tree, (tuple, list)):
    return [plain(v) for v in tree]
  return tree


def digest(tree: Any) -> str:
  """Twelve hex digits that change when any value of the tree changes."""
  text = json.dumps(plain(tree), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  """{"optim": {"lr": 1}} -> {"optim.lr": 1}."""
  leaves: dict[str, Any] = {}
  for key, value in plain(tree).items():
    if isinstance(value, dict):
      leaves.update(flat(value, f"{prefix}{key}."))
    else:
      leaves[f"{prefix}{key}"] = value
  return leaves


def diff(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
  """Dotted keys whose values differ, as (old, new); an absent key counts as None."""
  a, b = flat(old), flat(new)
  return {k: (a.get(k), b.get(k)) for k in sorted(a | b) if a.get(k) != b.get(k)}
