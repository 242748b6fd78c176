"""Saying that a file was made by affetto: marks in sound and pictures, signed manifests, consent, and the free detector.

Two layers, as the EU's code of practice on marking asks: a signed C2PA manifest in or beside the file, and a mark in
the sound or picture itself that survives what strips metadata.
"""
