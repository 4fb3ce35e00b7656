"""Datasets, one file each; the file's name is its name in a config.

A file defines `Options` (a frozen dataclass: the keys under `config.data`), `fingerprint(options) -> str` (changes
whenever the prepared data would) and `Builder`, a TFDS builder whose features are `features.clip_features`.
"""
