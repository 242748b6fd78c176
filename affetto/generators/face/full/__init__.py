"""The full tier of the face: EMOTE and FLINT, which load their authors' checkpoints."""
