"""JHMDB (Jhuang et al., ICCV 2013), official split 1, ConvLSTM from scratch.

python -m experiments.launch --config=configs/jhmdb_convlstm.py --config.data.root=/path/to/jhmdb

660 training and 268 test clips of 21 actions, 15-40 frames each, listed by the official splits/ or by jhmdb_splits.csv;
--config.data.split=2 takes another split. To compare with: majority class 5.9 %, linear model on the middle frame's HOG
17.8 %, on optical-flow histograms 32.0 %.

20.5 % test top-1 (95 %: 16.1-25.8, 268 clips), 18 minutes on two busy CPU cores; one seed, 2026-11-21.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="jhmdb", split=1, short_side=128)
  c.clip = dict(num_frames=12, sampling="dense", stride_f=2, short="repeat")
  c.pixels = dict(short_side=56, crop=48, flip=True, seen="differences")
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=16)
  c.model = dict(
    name="conv_lstm",
    stem=((16, 2), (24, 2)),
    hidden=(24, 32),
    neck=(64,),
  )
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.5)
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=100, weight_decay=1e-1)
  c.train = common.run(steps=2000, eval_every_steps=400, eval_split="test")
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c


def get_ablations() -> dict[str, dict[str, Any]]:
  """What is taken away or exchanged, see experiments/ablate.py. Not measured here."""
  return {
    "frames shuffled": {"clip.order": "shuffled"},
    "no recurrence": {"model.name": "frame_cnn", "model.stages": ((16, 2), (24, 2), (64, 1), (96, 2), (64, 2))},
    "frames instead of differences": {"pixels.seen": "frames"},
    "one layer": {"model.hidden": (32,)},
    "GRU": {"model.cell": "gru"},
    "no mirroring": {"pixels.flip": False},
    "no dropout": {"task.dropout": 0.0},
    "no label smoothing": {"task.label_smoothing": 0.0},
    "no weight decay": {"optim.weight_decay": 0.0},
  }
