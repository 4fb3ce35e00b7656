"""MODEL: GoogLeNet and S3D give torchvision's numbers with torchvision's weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from vu_jax.config import find_module
from vu_jax.tasks.classify import Head
from vu_jax.weights.carry import carry
from vu_jax.weights.torchvision import RULES

CLASSES = 5
# Frames, height, width; S3D's first is the smallest that torchvision takes, the second has a grid beyond the window.
CLIPS = {"inception": [(2, 32, 32), (1, 71, 45)], "s3d": [(14, 224, 224), (17, 225, 260)]}
PLACES = {"inception": "torchvision.models", "s3d": "torchvision.models.video"}


def network(name: str) -> Any:
  """torchvision's, every parameter and statistic random, in evaluation mode."""
  torch = peers.peer("torch")
  module = peers.peer(PLACES[name])
  generator = torch.Generator().manual_seed(0)
  made = module.s3d(num_classes=CLASSES) if name == "s3d" else module.googlenet(num_classes=CLASSES, init_weights=False)
  with torch.no_grad():
    for key, value in made.state_dict().items():
      if value.ndim > 1:  # kernels keep the size of what they see
        value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
      elif key.endswith(("running_var", "weight")):
        value.uniform_(0.5, 1.5, generator=generator)
      elif value.ndim == 1:
        value.normal_(0, 0.3, generator=generator)
  return made.eval()


@functools.cache
def carried(name: str) -> tuple[Any, Any, Any]:
  """(torchvision's network, our model, our variables by the rules)."""
  theirs, ours, head = network(name), find_module("model", name).Model(), Head(CLASSES)
  video = jax.ShapeDtypeStruct((1, *CLIPS[name][0], 3), jnp.float32)
  backbone = jax.eval_shape(functools.partial(ours.init, train=False), jax.random.key(0), video)
  pooled = {"pooled": jax.ShapeDtypeStruct((1, 1024), jnp.float32)}
  classifier = jax.eval_shape(functools.partial(head.init, train=False), jax.random.key(0), pooled, {})
  expected = {
    "params": {"backbone": backbone["params"], "head": classifier["params"]},
    "batch_stats": {"backbone": backbone["batch_stats"]},
  }
  published = {key: value.numpy() for key, value in theirs.state_dict().items()}
  return theirs, ours, carry(published, RULES[name], expected)


@pytest.mark.parametrize(("name", "size"), [(name, size) for name in CLIPS for size in CLIPS[name]])
def test_logits_are_those_of_torch(name: str, size: tuple[int, int, int]):
  """A plain and an odd, oblong clip; frames of GoogLeNet are classified one by one and averaged."""
  theirs, ours, variables = carried(name)
  torch = peers.peer("torch")
  video = np.random.default_rng(1).standard_normal((1, *size, 3)).astype(np.float32)
  with torch.no_grad():
    if name == "s3d":
      wanted = theirs(torch.from_numpy(np.moveaxis(video, -1, 1))).numpy()
    else:
      wanted = theirs(torch.from_numpy(np.moveaxis(video[0], -1, 1))).mean(0, keepdim=True).numpy()
  params, stats = variables["params"], variables["batch_stats"]["backbone"]
  run = jax.jit(functools.partial(ours.apply, train=False))
  features = run({"params": params["backbone"], "batch_stats": stats}, video)
  found = Head(CLASSES).apply({"params": params["head"]}, features, {}, train=False)["logits"]
  assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
  assert np.abs(wanted).max() > 0.1  # there was something to compare
