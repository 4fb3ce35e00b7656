"""LAYERS: the ops that models are made of. Models import from here and from nowhere else in the package."""
