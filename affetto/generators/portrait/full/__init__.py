"""The full tier of the talking portrait: DICE-Talk on today's diffusers, loading its authors' weights."""
