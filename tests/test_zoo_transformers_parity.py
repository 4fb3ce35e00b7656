"""MODEL: the transformers give the numbers of the libraries that their published weights are kept in."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from vu_jax.config import find_module
from vu_jax.layers.attention.masked import MaskedDecoder, normalise_tubelets, take_tokens, to_tubelets, tube_mask
from vu_jax.tasks.classify import Head
from vu_jax.weights import torchvision, transformers
from vu_jax.weights.carry import Rule, carry

CLASSES = 5
Clip = tuple[int, int, int]
# A plain clip, and an oblong one with an odd number of tokens along every axis.
FRAMES: tuple[Clip, Clip] = ((4, 32, 32), (3, 24, 40))
TUBELETS: tuple[Clip, Clip] = ((4, 32, 32), (6, 24, 40))
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "patch": (2, 8, 8)}
SHARED = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def vivit(clip: Clip) -> Any:
  library = peers.peer("transformers")
  config = library.VivitConfig(image_size=clip[1:], num_frames=clip[0], tubelet_size=(2, 8, 8), **SHARED)
  config.num_labels = CLASSES
  return library.VivitForVideoClassification(config)


def videomae_config(clip: Clip, classifies: bool) -> Any:
  """The epsilon of the authors' code, which the library's checkpoints have in most places."""
  decoder = {f"decoder_{key}": value for key, value in SHARED.items()}
  return peers.peer("transformers").VideoMAEConfig(
    image_size=clip[1:],
    num_frames=clip[0],
    patch_size=8,
    layer_norm_eps=1e-6,
    num_labels=CLASSES,
    use_mean_pooling=classifies,
    **SHARED,
    **decoder,
  )


def videomae(clip: Clip) -> Any:
  made = peers.peer("transformers").VideoMAEForVideoClassification(videomae_config(clip, True))
  made.fc_norm.eps = 1e-6
  return made


def timesformer(attention: str, clip: Clip) -> Any:
  """The library can name square frames only; the table of positions is put in for the clip's."""
  torch, library = peers.peer("torch"), peers.peer("transformers")
  config = library.TimesformerConfig(
    image_size=clip[2], num_frames=clip[0], patch_size=8, attention_type=attention, num_labels=CLASSES, **SHARED
  )
  made = library.TimesformerForVideoClassification(config)
  table = torch.zeros(1, 1 + clip[1] * clip[2] // 64, SHARED["hidden_size"])
  made.timesformer.embeddings.position_embeddings = torch.nn.Parameter(table)
  return made


def mvit(version: int, clip: Clip) -> Any:
  """Two stages, of one and two blocks; the first version widens in the block before the stage."""
  module = peers.peer("torchvision.models.video.mvit")
  second = version == 2
  still: list[int] = [1, 1, 1] if second else []
  rows = (  # heads, width, next width, strides of queries, of keys
    (1, 8, 8 if second else 16, still, [1, 4, 4]),
    (2, 8 if second else 16, 16, [1, 2, 2], [1, 2, 2]),
    (2, 16, 16, still, [1, 2, 2]),
  )
  blocks = [
    module.MSBlockConfig(heads, width, following, [3, 3, 3] if q else [], [3, 3, 3], q, kv)
    for heads, width, following, q, kv in rows
  ]
  return module.MViT(
    spatial_size=clip[1:],
    temporal_size=clip[0],
    block_setting=blocks,
    residual_pool=second,
    residual_with_cls_embed=False,
    rel_pos_embed=second,
    proj_after_attn=second,
    num_classes=CLASSES,
  )


Rules = Mapping[str, tuple[Rule, ...]]
FORM = {"divided": "divided_space_time", "joint": "joint_space_time", "space": "space_only"}
FRAME_SMALL = SMALL | {"patch": (1, 8, 8)}
MVIT = {"width": 8, "stages": (1, 2), "kv_strides": (1, 4, 4)}
CASES: dict[str, tuple[str, dict[str, Any], Callable[[Clip], Any], tuple[Clip, Clip], Rules]] = {
  "vivit": ("vivit", SMALL, vivit, TUBELETS, transformers.RULES),
  "videomae": ("videomae", SMALL, videomae, TUBELETS, transformers.RULES),
  **{
    f"timesformer {form}": (
      "timesformer",
      FRAME_SMALL | {"form": form},
      functools.partial(timesformer, theirs),
      FRAMES,
      transformers.RULES,
    )
    for form, theirs in FORM.items()
  },
  **{
    f"mvit v{version}": (
      "mvit",
      MVIT | {"version": version},
      functools.partial(mvit, version),
      ((4, 32, 32), (6, 32, 48)),
      torchvision.RULES,
    )
    for version in (1, 2)
  },
}


def randomise(network: Any) -> Any:
  """Every parameter random and of the usual size, so that none hides another."""
  torch = peers.peer("torch")
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, value in network.named_parameters():
      if value.ndim > 1 and "embeddings." not in name.removesuffix("projection.weight"):
        value.normal_(0, (1 / value[0].numel()) ** 0.5, generator=generator)
      else:
        value.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3, generator=generator)
  return network.eval()


def carried(theirs: Any, rules: tuple[Rule, ...], backbone: Any, head: Any) -> Any:
  """Our parameters, from theirs; backbone and head are shapes."""
  published = {key: value.numpy() for key, value in theirs.state_dict().items()}
  return carry(published, rules, {"params": {"backbone": backbone["params"], "head": head["params"]}})["params"]


def shapes(module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
  """Of its result and of its parameters."""
  init = functools.partial(module.init_with_output, train=False, **options)
  return jax.eval_shape(init, jax.random.key(0), *args)


def close(found: Any, wanted: Any) -> bool:
  return bool(np.abs(wanted).max() > 0.1 and np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("oblong", [False, True], ids=["plain", "oblong"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_torch(case: str, oblong: bool):
  """A plain clip, and an oblong one with an odd number of tokens along every axis."""
  torch = peers.peer("torch")
  name, options, build, clips, rules = CASES[case]
  clip = clips[oblong]
  theirs, ours, head = randomise(build(clip)), find_module("model", name).Model(**options), Head(CLASSES)
  video = np.random.default_rng(1).standard_normal((2, *clip, 3)).astype(np.float32)
  features, backbone = shapes(ours, video)
  params = carried(theirs, rules[name], backbone, shapes(head, features, {})[1])
  order = (0, 4, 1, 2, 3) if name == "mvit" else (0, 1, 4, 2, 3)
  with torch.no_grad():
    wanted = theirs(torch.from_numpy(video.transpose(order).copy()))
    if case == "timesformer space":  # the library does not average over frames
      wanted = frame_average(theirs, video)
    wanted = getattr(wanted, "logits", wanted).numpy()
  features = jax.jit(functools.partial(ours.apply, train=False))({"params": params["backbone"]}, video)
  found = head.apply({"params": params["head"]}, features, {}, train=False)["logits"]
  assert close(found, wanted)


def frame_average(theirs: Any, video: np.ndarray) -> Any:
  """The authors' head on the library's trunk: the mean of the class tokens of all frames, norm, classifier."""
  torch = peers.peer("torch")
  trunk = theirs.timesformer
  tokens = trunk.encoder(trunk.embeddings(torch.from_numpy(video.transpose(0, 1, 4, 2, 3).copy())))[0]
  first = tokens[:, 0].reshape(*video.shape[:2], -1).mean(1)
  return theirs.classifier(trunk.layernorm(first))


@pytest.mark.parametrize("clip", TUBELETS, ids=str)
def test_masked_prediction_is_that_of_torch(clip: Clip):
  """Encoder of the visible tubelets, decoder and loss of VideoMAE's pre-training."""
  torch = peers.peer("torch")
  theirs = peers.peer("transformers").VideoMAEForPreTraining(videomae_config(clip, False))
  theirs.decoder.norm.eps = 1e-6
  randomise(theirs)
  grid = (clip[0] // 2, clip[1] // 8, clip[2] // 8)
  visible, masked = tube_mask(jax.random.key(0), 2, grid, 0.7)
  video = np.random.default_rng(1).standard_normal((2, *clip, 3)).astype(np.float32)
  ours = find_module("model", "videomae").Model(**SMALL)
  decoder = MaskedDecoder(2 * 8 * 8 * 3, width=16, depth=2, heads=2, hidden=24)
  encoded, backbone = shapes(ours, video, visible=visible)
  tail = shapes(decoder, encoded["visible"], visible, masked)[1]["params"]
  rules = transformers.RULES["videomae"]
  params = carried(theirs, rules, backbone, {"params": {"decoder": tail}})
  hidden = np.zeros((2, grid[0] * grid[1] * grid[2]), bool)
  np.put_along_axis(hidden, np.asarray(masked), True, axis=1)
  with torch.no_grad():
    pixels = torch.from_numpy(video.transpose(0, 1, 4, 2, 3).copy())
    wanted = theirs(pixels, bool_masked_pos=torch.from_numpy(hidden))

  @jax.jit
  def predict(params: Any, video: jax.Array) -> jax.Array:
    tokens = ours.apply({"params": params["backbone"]}, video, visible=visible, train=False)["visible"]
    return decoder.apply({"params": params["head"]["decoder"]}, tokens, visible, masked, train=False)

  found = predict(params, video)
  assert close(found, wanted.logits.numpy())
  colours = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
  frames = jnp.asarray(video) * np.array(colours["std"]) + np.array(colours["mean"])
  target = take_tokens(normalise_tubelets(to_tubelets(frames, (2, 8, 8))), masked)
  assert np.isclose(((found - target) ** 2).mean(), wanted.loss.item(), rtol=1e-4)


OLD = {
  "vivit": {
    "vivit.layers.": "vivit.encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
  },
  "videomae": {"query.bias": "q_bias", "value.bias": "v_bias"},
}


@pytest.mark.parametrize("name", OLD)
def test_names_of_older_files_are_known_like_those_of_torch(name: str):
  """The files on the hub are spelt as older versions of the library did."""
  _, options, build, clips, rules = CASES[name]
  new = {key: value.numpy() for key, value in randomise(build(clips[0])).state_dict().items()}
  old = {functools.reduce(lambda k, pair: k.replace(*pair), OLD[name].items(), key): v for key, v in new.items()}
  assert old.keys() != new.keys()
  features, backbone = shapes(find_module("model", name).Model(**options), np.zeros((1, *clips[0], 3), np.float32))
  expected = {"params": {"backbone": backbone["params"], "head": shapes(Head(CLASSES), features, {})[1]["params"]}}
  jax.tree.map(np.testing.assert_array_equal, *(carry(weights, rules[name], expected) for weights in (new, old)))
