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

from configs import common, videomae_k400

EPOCH = 168_913 // 384  # steps


def get_config(arg: str = "videomae_b") -> ConfigDict:
  c = videomae_k400.get_config(arg)
  c.data.layout = "something_something"
  c.clip = dict(num_frames=16, sampling="segments", short="repeat")
  c.pixels.flip = False
  c.optim.warmup_steps = 5 * EPOCH
  c.train = common.run(steps=30 * EPOCH, eval_every_steps=5 * EPOCH)
  c.eval.clips = 2
  return c
