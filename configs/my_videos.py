"""Your own videos: a folder with a sub-folder per class, or a CSV of path, label and split.

python -m experiments.launch --config=configs/my_videos.py --config.data.root=/path/to/videos

Folders: root/CLASS/VIDEO is divided into training and test; root/train/CLASS/VIDEO and root/test/CLASS/VIDEO are
taken as they are. CSV: --config.data.csv=clips.csv, with columns path, label, split and optionally start_s, end_s.
Everything can be overridden, such as --config.model.hidden="(32,64)" or --config.clip.num_frames=16.
"""

from ml_collections import ConfigDict

from configs import common
from vu_jax.search import Space, choice, log_uniform, uniform


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", csv="", short_side=128, test_frac=0.2)  # root is asked for
  c.clip = dict(num_frames=12, sampling="segments", short="repeat")
  c.pixels = dict(short_side=72, crop=64, flip=True)
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=16)
  c.model = dict(name="conv_lstm", stem=((16, 2), (32, 2)), hidden=(32, 48), neck=(96,))
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.3)
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=50, weight_decay=1e-2)
  c.train = common.run(steps=1000, eval_every_steps=250, eval_split="test")
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c


def get_sweep() -> Space:
  """What experiments/sweep.py tries; the two models are two programs."""
  return {
    "optim.lr_peak": log_uniform(3e-4, 1e-2),
    "optim.weight_decay": log_uniform(1e-4, 1e-1),
    "task.dropout": uniform(0.0, 0.6),
    "model.hidden": choice((32, 48), (48, 64)),
  }
