"""Emotion read from text, speech, MIDI and faces."""
