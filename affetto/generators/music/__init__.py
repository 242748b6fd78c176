"""Symbolic music that follows an emotion: data, composer, synthesis."""
