"""Something-Something V2 with VideoMAE's encoder: the fine-tuning (Tong et al. 2022, "VideoMAE").

python -m experiments.launch --config=configs/videomae_ssv2.py --config.data.root=/path/to/something-something-v2
python -m experiments.launch --config=configs/videomae_ssv2.py:videomae_s ...    # or videomae_l

The recipe of the authors' code for ViT-B after 2,400 epochs of pre-training: one frame of each of 16 parts of the
video, never mirrored, since labels say "left" and "right"; 30 epochs of 168,913 videos; all else as in
configs/videomae_k400.py.

Validation top-1, 2x3 views: S 66.8, B 70.8 (69.6 after 800 epochs), after pre-training without labels on the same
videos, which this config does not have unless it is imported. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 168_913 // 384  # steps


def get_config(arg: str = "videomae_b") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="something_something", short_side=256)  # root is asked for
  c.clip = dict(num_frames=16, sampling="segments", short="repeat")
  c.pixels = dict(
    short_side=224,
    crop=224,
    window="area",
    area_frac=(0.08, 1.0),
    aspect=(3 / 4, 4 / 3),
    flip=False,
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
  c.train = common.run(steps=30 * EPOCH, eval_every_steps=5 * EPOCH)
  c.eval = dict(clips=2, crops=3, average="probabilities")
  return c
