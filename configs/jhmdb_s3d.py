"""JHMDB (Jhuang et al., ICCV 2013), official split 1, a small S3D-G on differences of frames, from scratch.

python -m experiments.launch --config=configs/jhmdb_s3d.py --config.data.root=/path/to/jhmdb

Same data as configs/jhmdb_convlstm.py. The clip spans 31 of at most 40 frames; differences hide the backgrounds, which
a network of this size learns by heart.

42.9 % test top-1 of 2 x 3 views (95 %: 37.1-48.9, 268 clips), 37.3 % of one view in the middle; 25 minutes on two CPU
cores; one seed, 2026-11-21. The test split is the only one held out; no checkpoint was chosen by it.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="jhmdb", split=1, short_side=128)
  c.clip = dict(num_frames=16, sampling="dense", stride_f=2, short="repeat")
  c.pixels = dict(short_side=64, crop=56, flip=True, seen="differences", window="jitter", jitter=(1.0, 1.4))
  c.augment = dict(brightness=0.3, contrast=0.3, saturation=0.3)
  c.loader = dict(batch_size=16)
  c.model = dict(name="s3d", gate="plain", width=0.5, blocks=(2, 2, 1), norm_momentum=0.9)
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.5)
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=100, weight_decay=1e-1)
  c.train = common.run(steps=2000, eval_every_steps=400, eval_split="test")
  c.eval = dict(clips=2, crops=3)  # views per video at the end; 10 and 3 are usual for long videos
  return c
