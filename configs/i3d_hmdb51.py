"""HMDB51, official split 1, with I3D, colour stream (Carreira & Zisserman 2017, "Quo vadis, action recognition?").

python -m experiments.launch --config=configs/i3d_hmdb51.py --config.data.root=/path/to/hmdb51

The paper's recipe: 64 frames at 25 Hz, shorter videos begin again, short side 256 px, crops of 224, pixels in -1 to 1;
SGD with momentum 0.9 on 16 GPUs, up to 5k steps. Clips per GPU (6), weight decay and dropout are taken from its
Kinetics run; it does not give the rate, which fell where validation stopped to improve: 0.01 and the milestones are
ours. So is batch norm's momentum: at the published 0.999 its statistics would not arrive within the run.
--config.data.split=2 takes another split.

Top-1, all frames in one centre crop, logits averaged: 74.8 % with networks trained on ImageNet and Kinetics (mean over
three splits), 49.8 % with ImageNet alone (split 1). This config starts from nothing, which will be far below. Not
measured here.
"""

from ml_collections import ConfigDict

from configs import i3d_ucf101


def get_config() -> ConfigDict:
  c = i3d_ucf101.get_config()
  c.data.layout = "hmdb51"
  return c
