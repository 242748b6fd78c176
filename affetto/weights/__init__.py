"""Registry, store and checks of every weight file; the embedded ones live beside it."""
