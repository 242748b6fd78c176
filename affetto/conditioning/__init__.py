"""Emotion -> numbers: values, tracks, charts, banks, directions, encoders, fusion and their files."""
