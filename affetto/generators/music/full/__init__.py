"""The published music models at their own sizes: MusER with its prior, Music FaderNets' arousal model."""
