"""CONFIG: every mistake is one line that names the key and the cure; what is right becomes typed objects."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import pytest
from ml_collections import ConfigDict

from vu_jax.build import Text, build, check, parse
from vu_jax.config import beside, diff, digest, find_module, flat, load, names, plain
from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Positive

CONFIG = """
from ml_collections import ConfigDict, FieldReference

def get_config(arg="small"):
  c = ConfigDict()
  width = FieldReference(8)
  c.model = dict(name="x", width=width, rates=(0.1, 0.2), names=["a"], arg=arg)
  c.head = dict(width=width, double=width * 2)
  c.train = dict(steps=100, lr=0.5, fast=True)
  return c
"""


@dataclass(frozen=True, kw_only=True)
class Part:
  """One field of every kind."""

  steps: Count
  rate: Positive = 0.1
  share: Fraction = 0.5
  fast: bool = False
  mode: Literal["slow", "quick"] = "slow"
  stem: tuple[Count, ...] = (8,)
  stages: tuple[tuple[Count, Count], ...] = ((8, 2),)
  mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
  root: str = ""
  given: int = 0

  def __post_init__(self) -> None:
    if self.root == self.mode:
      raise UserError("root and mode must differ")


class Layer(nn.Module):
  """A linen module, whose `parent` and `name` are no keys."""

  width: Count = 4


def made(**section: Any) -> Part:
  return build(Part, {"steps": 1} | section, "config.part", given=3)


def write(folder: pathlib.Path, text: str = CONFIG, name: str = "exp.py") -> str:
  (folder / name).write_text(text)
  return str(folder / name)


def test_a_section_becomes_a_typed_object():
  """Defaults come from the class, an int becomes a float, a list a tuple, and `name` is not passed on."""
  part = made(name="anything", rate=2, stem=[4, 8], mean=(0, 1, 0.5))
  assert part == Part(steps=1, rate=2.0, stem=(4, 8), mean=(0.0, 1.0, 0.5), given=3)
  assert type(part.rate) is float
  assert type(part.mean[0]) is float
  assert build(Layer, {"name": "x", "width": 2}, "config.model").width == 2


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"step": 2}, r'config\.part\.step: unknown key; did you mean "steps"\? \(keys here: steps, rate, .*root\)'),
    ({"zzz": 2}, r"config\.part\.zzz: unknown key \(keys here"),
    ({"given": 2}, r"config\.part\.given: unknown key"),
    ({"steps": True}, r"config\.part\.steps = True: must be int, not bool"),
    ({"steps": None}, r"config\.part\.steps = None: must be int, not NoneType"),
    ({"steps": 2.0}, r"config\.part\.steps = 2\.0: must be int, not float"),
    ({"steps": "2"}, r"config\.part\.steps = '2': must be int, not str"),
    ({"steps": 0}, r"config\.part\.steps = 0: must be at least 1"),
    ({"rate": True}, r"config\.part\.rate = True: must be float, not bool"),
    ({"rate": None}, r"config\.part\.rate = None: must be float"),
    ({"rate": 0}, r"config\.part\.rate = 0\.0: must be above 0"),
    ({"rate": float("nan")}, r"config\.part\.rate = nan: must be above 0"),
    ({"share": 1.5}, r"config\.part\.share = 1\.5: must be between 0 and 1"),
    ({"fast": 1}, r"config\.part\.fast = 1: must be bool, not int"),
    ({"mode": "quik"}, r"""config\.part\.mode = 'quik': must be one of 'slow', 'quick'; did you mean "quick"\?"""),
    ({"mode": None}, r"config\.part\.mode = None: must be one of"),
    ({"stem": 8}, r"config\.part\.stem = 8: must be a tuple such as \(1, 2\), not int"),
    ({"stem": (8, 0)}, r"config\.part\.stem\[1\] = 0: must be at least 1"),
    ({"stem": (8, True)}, r"config\.part\.stem\[1\] = True: must be int"),
    ({"stages": ((8, 2), 4)}, r"config\.part\.stages\[1\] = 4: must be a tuple"),
    ({"stages": ((8, 2), (4, 0))}, r"config\.part\.stages\[1\]\[1\] = 0: must be at least 1"),
    ({"mean": (0.5, 0.5)}, r"config\.part\.mean = \(0\.5, 0\.5\): must have 3 entries, not 2"),
    ({"root": 5}, r"config\.part\.root = 5: must be str, not int"),
    ({"root": "slow"}, r"^config\.part: root and mode must differ$"),
  ],
)
def test_a_mistake_in_a_section_is_one_line(section: dict[str, Any], message: str):
  """Key, value and cure; also what ConfigDict lets pass: True and None for an int, tuples of any length."""
  with pytest.raises(UserError, match=message) as caught:
    made(**section)
  assert "\n" not in str(caught.value)


def test_missing_and_module_keys():
  """What has no default must be given; linen's own fields are no keys."""
  with pytest.raises(UserError, match=r"config\.part\.steps is missing: give it as --config\.part\.steps="):
    build(Part, {}, "config.part", given=3)
  with pytest.raises(UserError, match=r"config\.model\.parent: unknown key \(keys here: width\)"):
    build(Layer, {"parent": None}, "config.model")


@pytest.mark.parametrize(
  ("key", "text", "value"),
  [
    ("steps", "12", 12),
    ("steps", "1e4", 10_000),
    ("rate", "3e-4", 3e-4),
    ("rate", "3", 3.0),
    ("fast", "True", True),
    ("mode", "quick", "quick"),
    ("stem", "(8, 16)", (8, 16)),
    ("stem", "[8, 16]", (8, 16)),
    ("stem", "8", (8,)),
    ("stem", "8,", (8,)),
    ("stages", "((4, 2), [8, 1])", ((4, 2), (8, 1))),
    ("mean", "(0, 1, .5)", (0.0, 1.0, 0.5)),
    ("root", "/a b/c", "/a b/c"),
    ("root", "12", "12"),
    ("root", "__import__('os').getcwd()", "__import__('os').getcwd()"),
  ],
)
def test_typed_text_is_read_as_the_field_wants_it(key: str, text: str, value: Any):
  """The annotation decides: 12 is a number for `steps` and a folder for `root`; nothing is ever evaluated."""
  found = getattr(made(**{key: Text(text)}), key)
  assert found == value
  assert type(found) is type(value)


@pytest.mark.parametrize(
  ("key", "text", "message"),
  [
    ("steps", "1.5", "must be int"),
    ("steps", "many", "must be an integer"),
    ("steps", "True", "must be int"),
    ("steps", "", "must be an integer"),
    ("steps", "{[]: 1}", "must be an integer"),
    ("steps", "2**9", "must be an integer"),
    ("steps", "__import__('os').getpid()", "must be an integer"),
    ("rate", "fast", "must be a number"),
    ("fast", "true", "must be True or False"),
    ("fast", "1", "must be bool"),
    ("stem", "wide", r"must be a tuple such as \(1, 2\)"),
    ("stem", "(1, 2", "must be a tuple"),
    ("mode", "quik", "must be one of"),
  ],
)
def test_typed_text_that_is_no_such_value_is_refused(key: str, text: str, message: str):
  """The message shows what was typed and what is wanted; code is no literal."""
  with pytest.raises(UserError, match=rf"^config\.part\.{key} = .*{message}"):
    made(**{key: Text(text)})


def test_check_and_parse_leave_alone_what_has_no_kind():
  """`Any` takes everything; a kind of its own takes a literal, or the text as it is."""
  assert check([1], Any, "x") == [1]
  assert parse("None", type(None), "x") is None
  assert parse("os.getcwd()", type(None), "x") == "os.getcwd()"


def test_a_config_is_loaded_and_overridden(tmp_path: pathlib.Path):
  """Text after a colon reaches get_config; keys that the file lists change, others wait for `build`."""
  file = write(tmp_path)
  assert load(file, {}).model.arg == "small"
  assert load(f"{file}:large", {}).model.arg == "large"
  config = load(file, {"train.steps": "1e3", "train.lr": "2", "model.rates": "(1, 2.5)", "model.deep": "4"})
  assert (config.train.steps, config.train.lr, config.model.rates) == (1000, 2.0, (1, 2.5))
  assert config.model.deep == Text("4")
  assert isinstance(config.model.deep, Text)
  with pytest.raises((KeyError, AttributeError)):
    config.model.other = 1  # locked


def test_references_follow_an_override(tmp_path: pathlib.Path):
  """A width that several sections share is changed in all of them, and in what is computed from it."""
  config = load(write(tmp_path), {"model.width": "32"})
  assert (config.model.width, config.head.width, config.head.double) == (32, 32, 64)


def test_another_model_begins_with_its_own_defaults(tmp_path: pathlib.Path):
  """Keys of the old one are gone, whatever the order in which more is typed; other sections stay."""
  config = load(write(tmp_path), {"model.width": "5", "model": "other"})
  assert config.model.to_dict() == {"name": "other", "width": "5"}
  assert config.head.width == load(write(tmp_path), {}).head.width


def test_what_else_a_file_defines(tmp_path: pathlib.Path):
  """Beside `get_config`; None where it does not."""
  file = write(tmp_path)
  with pathlib.Path(file).open("a") as more:
    more.write("\ndef get_ablations():\n  return {'a': {'b': 1}}\n")
  assert beside(f"{file}:large", "get_ablations") == {"a": {"b": 1}}
  assert beside(file, "get_sweep") is None


@pytest.mark.parametrize(
  ("key", "text", "message"),
  [
    ("train.steps", "many", r"config\.train\.steps = 'many': must be an integer"),
    ("train.steps", "0.5", r"config\.train\.steps = '0\.5': must be an integer"),
    ("train.fast", "1", r"config\.train\.fast = '1': must be True or False"),
    ("train.lr", "'x'", r"config\.train\.lr = \"'x'\": must be a number"),
    ("model.names", "x", r"config\.model\.names = 'x': must be a tuple"),
    ("train.steps.x", "5", r"--config\.train\.steps\.x: there is no section train\.steps"),
    ("train", "5", r"--config\.train: is a section; give one of its keys, such as --config\.train\."),
  ],
)
def test_a_wrong_override_is_one_line(tmp_path: pathlib.Path, key: str, text: str, message: str):
  """Wrong values and sections are found when the file is loaded."""
  with pytest.raises(UserError, match=message):
    load(write(tmp_path), {key: text})


@pytest.mark.parametrize(
  ("text", "suffix", "message"),
  [
    ("x = 1", "", r"exp\.py: defines no get_config\(\)"),
    ("def get_config(): return {'a': 1}", "", r"get_config\(\) must return a ConfigDict, not dict"),
    ("def get_config(): return 1", ":large", r"exp\.py:large: its get_config\(\) takes no argument"),
  ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: pathlib.Path, text: str, suffix: str, message: str):
  """Each way to be no config has its own line."""
  with pytest.raises(UserError, match=message):
    load(write(tmp_path, text) + suffix, {})


def test_a_missing_file_suggests_its_neighbour(tmp_path: pathlib.Path):
  """The nearest name of the folder."""
  write(tmp_path)
  with pytest.raises(UserError, match=r'exq\.py: no such file; did you mean "exp"\?'):
    load(str(tmp_path / "exq.py"), {})
  with pytest.raises(UserError, match=r"no such file$"):
    load(str(tmp_path / "nowhere" / "exp.py"), {})


def test_an_error_inside_a_config_is_not_hidden(tmp_path: pathlib.Path):
  """A defect of the user's own code keeps its type, so that its traceback leads there."""
  with pytest.raises(ZeroDivisionError):
    load(write(tmp_path, "def get_config(): return 1 / 0"), {})
  with pytest.raises(TypeError, match="unsupported operand"):
    load(write(tmp_path, "def get_config(arg=''): return arg + 1 if not arg else 1 - arg") + ":x", {})


def test_modules_are_found_by_file_name():
  """Files of the folder, without a list of them anywhere."""
  assert {"conv_lstm", "frame_cnn"} <= set(names("model"))
  assert find_module("task", "classify").__name__ == "vu_jax.tasks.classify"
  for wrong, near in (("conv_lsmt", "conv_lstm"), ("frame_cn", "frame_cnn")):
    with pytest.raises(UserError, match=rf'config\.model\.name = "{wrong}": .*did you mean "{near}"\? \(there are '):
      find_module("model", wrong)


def test_modules_of_the_user_are_found_by_dotted_path(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Any importable module will do; what fails inside it fails as itself, what does not exist is named."""
  (tmp_path / "lab_of_mine").mkdir()
  write(tmp_path / "lab_of_mine", "Model = 5", "nets.py")
  write(tmp_path / "lab_of_mine", "import no_such_library", "broken.py")
  monkeypatch.syspath_prepend(tmp_path)
  assert find_module("model", "lab_of_mine.nets").Model == 5
  with pytest.raises(ModuleNotFoundError, match="no_such_library"):
    find_module("model", "lab_of_mine.broken")
  for wrong in ("lab_of_mine.net", "lab_of_nobody.nets", "./nets.py", "nets.py", ""):
    with pytest.raises(UserError, match=r"config\.model\.name = .*: no module"):
      find_module("model", wrong)


def test_plain_is_json_and_digest_its_name():
  """Objects, modules and configs become plain values; the digest changes with any of them, not with their order."""
  part = Part(steps=1, stem=(4, 8))
  assert json.loads(json.dumps(plain(part))) == plain(part)
  assert plain(part)["stem"] == [4, 8]
  assert plain(Layer(width=3)) == {"width": 3}
  assert plain(ConfigDict({"a": {"b": (1, 2)}})) == {"a": {"b": [1, 2]}}
  assert digest(part) == digest(Part(steps=1, stem=(4, 8))) == digest(plain(part))
  assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
  changes: list[Callable[[], Part]] = [
    lambda: dataclasses.replace(part, fast=True), lambda: dataclasses.replace(part, stem=(8, 4)),
  ]  # fmt: skip
  assert len({digest(part), *(digest(change()) for change in changes)}) == 3
  assert len(digest(part)) == 12


def test_flat_and_diff_by_hand():
  """Dotted keys; what one side lacks counts as None."""
  old = {"optim": {"lr": 1, "wd": 0.1}, "seed": 0}
  new = ConfigDict({"optim": {"lr": 2, "wd": 0.1, "clip": 1.0}})
  assert flat(old) == {"optim.lr": 1, "optim.wd": 0.1, "seed": 0}
  assert diff(old, new) == {"optim.clip": (None, 1.0), "optim.lr": (1, 2), "seed": (0, None)}
  assert diff(old, old) == {}
