"""Experiments: one file each, a function get_config() that returns a plain ConfigDict."""
