"""Kinetics-400 with VideoMAE's encoder: the fine-tuning (Tong et al. 2022, "VideoMAE").

python -m experiments.launch --config=configs/videomae_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/videomae_k400.py:videomae_l ...    # or videomae_s

The recipe of the authors' code for ViT-B after 1,600 epochs of pre-training: 16 frames, every fourth at 30 Hz, areas of
8 to 100 % of the frame shown at 224 px, RandAugment (7, four operations), a quarter of the clips erased in part, MixUp
0.8 or CutMix 1.0, labels smoothed by 0.1; AdamW for 75 epochs of 240,000 videos on 64 GPUs with 6 videos each, two
clips of every video, 5 epochs of warm-up and half a cosine wave, rate 5e-4 for 256 videos per step, weight decay 0.05,
layer-wise rates 0.75, stochastic depth 0.1.
Differs: a step's 768 clips are of as many videos, for as many steps; gradients are not cut, as there.

Validation top-1, 5x3 views: S 79.0, B 81.5, L 85.2, after pre-training without labels on the same videos (B: 27 hours
on 64 V100 for 800 epochs), which this config does not have unless it is imported; without it expect far less. Not
measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 240_000 // 384  # steps


def get_config(arg: str = "videomae_b") -> ConfigDict:
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
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
  )
  c.augment = dict(
    policy="rand", count=4, magnitude=7.0, magnitude_std=0.5, erase_frac=0.25, mixup_alpha=0.8, cutmix_alpha=1.0
  )
  c.loader = dict(batch_size=768)
  c.model = dict(name="videomae", preset=arg, drop_path=0.1, dtype="bfloat16")
  c.task = dict(name="classify", label_smoothing=0.1)
  c.optim = dict(
    method="adamw",
    lr_peak=5e-4 * 384 / 256,
    schedule="cosine",
    warmup_steps=5 * EPOCH,
    lr_end_frac=1e-6 / 5e-4,
    weight_decay=0.05,
    layer_decay=0.75,
    clip_norm=0.0,
  )
  c.train = common.run(steps=75 * EPOCH, eval_every_steps=5 * EPOCH)
  c.eval = dict(clips=5, crops=3, average="probabilities")
  return c
