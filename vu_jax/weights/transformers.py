"""Networks of the package `transformers` (https://github.com/huggingface/transformers): `RULES[<our model>]`.

Both spellings are known, that of the files on its hub and that of its newer versions in memory.

Epsilons are not weights: its VideoMAE has 1e-5 in the norms behind the pooling and at the end of the decoder, and 1e-12
in all others unless its config says otherwise; the authors' code and ours have 1e-6 everywhere.
"""

import numpy as np

from vu_jax.weights.carry import Leaves, Placed, Rule, conv, dense, norm, value

_NAMES = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "out", "output.dense": "out"}
_PATCH = "patch_embeddings.projection."


def _attention(leaves: Leaves) -> Placed:
  """Queries, keys and values, apart or in one, become `qkv`; without a bias of the keys, each bias stays alone."""
  named = {}
  for leaf, array in leaves.items():
    module, _, last = leaf.removeprefix("attention.").rpartition(".")
    short = {"q_bias": ("query", "bias"), "v_bias": ("value", "bias")}.get(last, (module, last))
    named[f"{_NAMES.get(short[0], short[0])}.{short[1]}"] = array
  placed = {"out/kernel": named["out.weight"].T, "out/bias": named["out.bias"]}
  parts = ["qkv"] if "qkv.weight" in named else ["query", "key", "value"]
  placed["qkv/kernel"] = np.concatenate([named[f"{part}.weight"].T for part in parts], axis=-1)
  if f"{parts[-1]}.bias" not in named:
    return placed
  if all(f"{part}.bias" in named for part in parts):
    return placed | {"qkv/bias": np.concatenate([named[f"{part}.bias"] for part in parts])}
  return placed | {"query_bias": named["query.bias"], "value_bias": named["value.bias"]}


def _embeddings(leaves: Leaves, positions: str) -> dict[str, np.ndarray]:
  """Patches, the class token, and its position, which is the first row of the table."""
  weight, table = leaves[f"{_PATCH}weight"], leaves["position_embeddings"][0]
  patches = conv({"weight": weight if weight.ndim == 5 else weight[:, :, None]})
  return {
    "embed/kernel": patches["kernel"],
    "embed/bias": leaves[f"{_PATCH}bias"],
    "class_token/token": leaves["cls_token"][0, 0],
    "class_token/position": table[0],
    positions: table[1:],
  }


def _tubelet_embeddings(leaves: Leaves) -> Placed:
  return _embeddings(leaves, "positions/joint")


def _frame_embeddings(leaves: Leaves) -> Placed:
  time = {"time_positions/time": leaves["time_embeddings"][0]} if "time_embeddings" in leaves else {}
  return _embeddings(leaves, "space_positions/space") | time


def _blocks(there: str, here: str) -> tuple[Rule, ...]:
  """Rules for the blocks of a stack."""
  there, here = rf"{there}\.(\d+)\.", f"{here}block{{0}}/"
  return (
    (there + "layernorm_before", here + "attention_norm", norm),
    (there + "layernorm_after", here + "mlp_norm", norm),
    (there + "attention", here + "attention", _attention),
    (there + r"(?:intermediate\.dense|mlp\.fc1)", here + "mlp/up", dense),
    (there + r"(?:output\.dense|mlp\.fc2)", here + "mlp/down", dense),
    (there + "temporal_layernorm", here + "time_norm", norm),
    (there + "temporal_attention", here + "time", _attention),
    (there + "temporal_dense", here + "time_out", dense),
  )


_LOGITS: Rule = ("classifier", "head/logits", dense)

RULES: dict[str, tuple[Rule, ...]] = {
  "vivit": (
    (r"vivit\.embeddings", "backbone", _tubelet_embeddings),
    *_blocks(r"vivit\.(?:encoder\.layer|layers)", "backbone/"),
    (r"vivit\.layernorm", "backbone/norm", norm),
    _LOGITS,
  ),
  "timesformer": (
    (r"timesformer\.embeddings", "backbone", _frame_embeddings),
    *_blocks(r"timesformer\.encoder\.layer", "backbone/"),
    (r"timesformer\.layernorm", "backbone/norm", norm),
    _LOGITS,
  ),
  "videomae": (
    (r"videomae\.embeddings\.patch_embeddings\.projection", "backbone/embed", conv),
    *_blocks(r"videomae\.encoder\.layer", "backbone/"),
    (r"videomae\.layernorm", "backbone/norm", norm),
    ("fc_norm", "backbone/pooled_norm", norm),
    _LOGITS,
    ("encoder_to_decoder", "head/decoder/project", dense),
    ("mask_token", "head/decoder/mask_token", lambda leaves: {"": value(leaves)[""][0]}),
    *_blocks(r"decoder\.decoder_layers", "head/decoder/"),
    (r"decoder\.norm", "head/decoder/norm", norm),
    (r"decoder\.head", "head/decoder/pixels", dense),
  ),
}
