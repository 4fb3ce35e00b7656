"""AUDIO: the sound of a clip, on the clock of its pictures.

track.py    a video file -> its sound track, each sample at its moment
store.py    what a record holds of it, and reading a stretch without the rest
window.py   which stretch belongs to the frames of a clip: `config.audio`
"""
