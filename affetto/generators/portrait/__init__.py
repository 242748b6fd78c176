"""Talking portraits: a photo speaks, with an emotion."""
