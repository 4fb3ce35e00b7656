"""Parts of networks that several models share.

residual.py, resnet_trunk.py             blocks and stages of residual networks; the ResNet on every frame
inception.py                             Inception's blocks, in space, full 3-D or separable
cnn.py                                   a small CNN on every frame
frame_features.py                        the CNN on each frame, by name
recurrent_maps.py, frames_rnn.py         recurrence on maps between CNNs; recurrence over the features of frames
time_pool.py                             pooling over time that goes on from a state
forecast.py                              Forecaster: a stack that predicts the next frame
    scheduled_sampling.py                  which frames it reads instead of its own
translators.py, patches.py               SimVP's networks over all frames at once; pixels folded into channels
"""
