"""Scores played by built-in instruments, or by fluidsynth with a soundfont: `render`, `render_stems`, `stream`."""

from affetto.generators.music.synth.render import render, render_stems, stream
from affetto.generators.music.synth.timbres import TIMBRES, timbre_of

__all__ = ["TIMBRES", "render", "render_stems", "stream", "timbre_of"]
