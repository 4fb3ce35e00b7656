"""Kinetics-400 with MViT (Fan et al. 2021, "Multiscale vision transformers"; Li et al. 2022, "MViTv2").

python -m experiments.launch --config=configs/mvit_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/mvit_k400.py:mvit_v1_b ...

The recipe of the authors' code (PySlowFast, MVITv2_S_16x4.yaml and MVIT_B_16x4_CONV.yaml), from nothing: 16 frames,
every fourth at 30 Hz, areas of 8 to 100 % of the frame shown at 224 px, RandAugment (7, four operations), a quarter of
the clips erased in part, MixUp 0.8 or CutMix 1.0, labels smoothed by 0.1; AdamW for 200 epochs of 240,000 videos on 128
GPUs with 2 videos each, two clips of every video, 30 epochs of warm-up and half a cosine wave, rate 1e-4 for 16 videos
per step, weight decay 0.05, gradients cut to 1, stochastic depth 0.2, dropout 0.5. The rate is for the 256 videos, here
512 clips, of a step: scale it with loader.batch_size.
Differs: a step's 512 clips are of as many videos, for as many steps; tables of positions do not decay.

Validation top-1, 5x1 views: MViTv2-S 81.0, MViTv1-B 78.4. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 240_000 // 256  # steps


def get_config(arg: str = "mvit_v2_s") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=16, sampling="rate", rate_hz=7.5, short="repeat")
  c.pixels = dict(
    short_side=224,
    crop=224,
    window="area",
    area_frac=(0.08, 1.0),
    aspect=(3 / 4, 4 / 3),
    flip=True,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
  )
  c.augment = dict(
    policy="rand", count=4, magnitude=7.0, magnitude_std=0.5, erase_frac=0.25, mixup_alpha=0.8, cutmix_alpha=1.0
  )
  c.loader = dict(batch_size=512)
  c.model = dict(name="mvit", preset=arg, drop_path=0.2, dtype="bfloat16")
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.5)
  c.optim = dict(
    method="adamw",
    lr_peak=1e-4 * 256 / 16,
    schedule="cosine",
    warmup_steps=30 * EPOCH,
    warmup_from_frac=0.01,
    lr_end_frac=0.01,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  c.train = common.run(steps=200 * EPOCH, eval_every_steps=10 * EPOCH)
  c.eval = dict(clips=5, crops=1, average="probabilities")
  return c
