"""The optimizer, from typed options: what happens to a gradient before it is added to the parameters."""

import math
from functools import partial

import jax
import optax
import optax.contrib
from jaxtyping import Array

from vu_jax.glossary import Count, is_zero
from vu_jax.train.optim_options import Optim
from vu_jax.train.param_groups import Tree, check_groups, decayed, frozen, hidden_kernels, rates
from vu_jax.train.schedules import Rate, learning_rate

__all__ = ["Optim", "decayed", "learning_rate", "optimizer"]


def optimizer(options: Optim, train_steps: Count) -> optax.GradientTransformation:
  """cut -> the method, with decay and rate -> factors of the groups; frozen parameters take part in nothing.

  Its memory has the shapes of the parameters, at paths that end like theirs, apart from scalars and muon's constants.

  Raises:
    UserError: when steps do not fit; and, from `init`, when options do not fit the parameters (`check_groups`).
  """
  rate = learning_rate(options, train_steps)
  tx: optax.GradientTransformation = optax.chain(*_cuts(options), *_method(options, rate))
  if options.frozen:
    tx = optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, partial(_labels, options=options))
  if options.lr_scale or options.layer_decay < 1:
    # Outside of the partition, because the depth of a layer is counted among all of them.
    tx = optax.chain(tx, optax.stateless(lambda updates, _: scaled(updates, options)))

  return optax.GradientTransformation(partial(_init, tx, options), tx.update)


def _init(tx: optax.GradientTransformation, options: Optim, params: Tree) -> optax.OptState:
  check_groups(params, options)
  return tx.init(params)


def scaled(updates: Tree, options: Optim) -> Tree:
  """Each update times the factor of its parameter's rate."""
  return jax.tree.map(lambda update, factor: factor * update, updates, rates(updates, options))


def _labels(params: Tree, options: Optim) -> Tree:
  return jax.tree.map(lambda stays: "frozen" if stays else "trained", frozen(params, options))


def _cuts(options: Optim) -> list[optax.GradientTransformation]:
  norm = optax.identity() if is_zero(options.clip_norm) else optax.clip_by_global_norm(options.clip_norm)
  return [norm, *([optax.adaptive_grad_clip(options.clip_adaptive)] if options.clip_adaptive else [])]


def _method(options: Optim, rate: Rate) -> list[optax.GradientTransformation]:
  """The method's steps; the last one turns the direction downhill and scales it by the rate."""
  b1, b2, eps = options.b1, options.b2, options.eps
  mask = partial(decayed, options=options)
  decay = optax.add_decayed_weights(options.weight_decay, mask)
  match options.method:
    case "sgd":
      return [decay, optax.sgd(rate, options.momentum, nesterov=options.nesterov)]
    case "adam":
      return [decay, optax.adam(rate, b1, b2, eps)]
    case "adamw":
      return [optax.adamw(rate, b1, b2, eps, weight_decay=options.weight_decay, mask=mask)]
    case "lamb":
      return [optax.lamb(rate, b1, b2, eps, weight_decay=options.weight_decay, mask=mask)]
    case "lion":
      return [optax.lion(rate, b1, b2, weight_decay=options.weight_decay, mask=mask)]
    case "muon":
      methods = {"hidden": _muon(options), "other": optax.scale_by_adam(b1, b2, eps)}
      return [optax.partition(methods, _muon_labels), decay, optax.scale_by_learning_rate(rate)]


def _muon_labels(params: Tree) -> Tree:
  return jax.tree.map(lambda hidden: "hidden" if hidden else "other", hidden_kernels(params))


def _muon(options: Optim) -> optax.GradientTransformation:
  """Orthogonal directions, as large as Adam's, so that both may share rate and decay.

  A kernel of any number of dimensions counts as the matrix (all but the last, last), of which the direction has a
  root mean square of about 0.2.

  Source: Jordan et al. 2024, "Muon"; the scale is equation 4 of Liu et al. 2025, "Muon is scalable for LLM training".
  """
  muon = optax.contrib.scale_by_muon(
    beta=options.momentum, eps=options.eps, nesterov=options.nesterov, weight_dimension_numbers=_matrices
  )
  return optax.chain(muon, optax.stateless(lambda updates, _: jax.tree.map(_as_adam, updates)))


def _matrices(params: Tree) -> Tree:
  return jax.tree.map(lambda p: optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1), params)


def _as_adam(update: Array) -> Array:
  side = max(update.shape[-1], update.size // update.shape[-1])
  return 0.2 * math.sqrt(side) * update
