"""A voice and an emotion -> the same words in the same voice, sounding so (after EmoReg, Gudmalwar et al. 2025)."""
