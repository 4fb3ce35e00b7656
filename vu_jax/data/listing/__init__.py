"""LISTING: which labelled clips there are, and in which split; `selection.list_clips` is the door."""
