"""NET: a backbone that is not trained, and batch norm that keeps its statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce

from vu_jax.layers.norm import batch_norm
from vu_jax.net import Net
from vu_jax.tasks.classify import Head


class Normed(nn.Module):
  """Batch norm of the pixels, and their mean."""

  norm_frozen: bool = False

  @nn.compact
  def __call__(self, video, *, train):
    x = batch_norm(train=train, frozen=self.norm_frozen)(name="norm")(video)
    return {"tokens": x, "pooled": reduce(x, "b t h w c -> b c", "mean")}


BATCH = {"video": jax.random.randint(jax.random.key(1), (2, 1, 2, 2, 3), 0, 256).astype(jnp.uint8)}


def after_training(net: Net):
  """(gradient, statistics before, statistics after) of a call in training."""
  variables = net.init(jax.random.key(0), BATCH, train=False)

  def loss(params):
    out, changed = net.apply({**variables, "params": params}, BATCH, train=True, mutable=["batch_stats"])
    return (out["logits"] + out["logits"] ** 2).sum(), changed

  # The classifier starts at zero, which would hide the gradient of the backbone.
  params = jax.tree.map(lambda p: p + 0.1, variables["params"])
  grads, changed = jax.grad(loss, has_aux=True)(params)
  return grads, variables["batch_stats"], changed["batch_stats"]


def test_a_trained_backbone_moves():
  grads, before, after = after_training(Net(Normed(), Head(4)))
  assert (grads["backbone"]["norm"]["bias"] != 0).any()
  assert (before["backbone"]["norm"]["mean"] != after["backbone"]["norm"]["mean"]).any()


def test_a_frozen_backbone_gets_no_gradient_and_keeps_its_statistics():
  """The head is trained on features as evaluation sees them."""
  grads, before, after = after_training(Net(Normed(), Head(4), frozen=True))
  assert all((g == 0).all() for g in jax.tree.leaves(grads["backbone"]))
  assert all((g != 0).any() for g in jax.tree.leaves(grads["head"]))
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_frozen_norms_learn_but_keep_their_statistics():
  grads, before, after = after_training(Net(Normed(norm_frozen=True), Head(4)))
  assert (grads["backbone"]["norm"]["scale"] != 0).any()
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_batch_norm_by_hand():
  """Values 1 and 3: mean 2, variance 1; the stored mean moves a tenth of the way from 0, the variance stays at 1."""
  norm = batch_norm(train=True, epsilon=0.0)()
  y, changed = norm.init_with_output(jax.random.key(0), jnp.array([[1.0], [3.0]]))
  np.testing.assert_allclose(y, [[-1.0], [1.0]])
  moved = norm.apply(changed, jnp.array([[1.0], [3.0]]), mutable=["batch_stats"])[1]["batch_stats"]
  np.testing.assert_allclose(moved["mean"], [0.2])
  np.testing.assert_allclose(moved["var"], [1.0])
