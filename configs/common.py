"""Pieces that several configs share: functions that return fresh sub-configs."""

from ml_collections import ConfigDict


def optim(lr_peak: float, warmup_steps: int = 100, weight_decay: float = 1e-4) -> ConfigDict:
  """AdamW with linear warm-up and cosine decay to zero."""
  return ConfigDict(
    dict(method="adamw", lr_peak=lr_peak, schedule="cosine", warmup_steps=warmup_steps, weight_decay=weight_decay)
  )


def run(steps: int, eval_every_steps: int, eval_split: str = "validation") -> ConfigDict:
  """Length and rhythm of a run; a checkpoint with every evaluation."""
  return ConfigDict(
    dict(
      steps=steps,
      eval_every_steps=eval_every_steps,
      eval_split=eval_split,
      checkpoint_every_steps=eval_every_steps,
      log_every_steps=max(eval_every_steps // 10, 1),
    )
  )
