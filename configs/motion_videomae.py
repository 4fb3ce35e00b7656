"""VideoMAE's encoder, small and trained with labels from nothing, tells eight motions apart.

python -m experiments.launch --config=configs/motion_videomae.py

Same data, clips and training as configs/motion_vivit.py; there is no class token, and positions are fixed sinusoids.
98.2 % test top-1 (seed 0, 400 clips, 2026-11-21).
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=4, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=24, crop=24, flip=False)  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=32)
  c.model = dict(name="videomae", width=64, depth=4, heads=4, hidden=128, patch=(2, 4, 4))
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=100, weight_decay=0.05)
  c.train = common.run(steps=1500, eval_every_steps=500)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
