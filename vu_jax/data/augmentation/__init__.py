"""AUGMENTATION: what training does to the pixels of a clip; `augment` is the door, `device` runs inside of the step."""
