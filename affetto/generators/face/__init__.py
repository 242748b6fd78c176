"""Speech and emotion -> an animated 3D face (after EMOTE, Danecek et al. 2023)."""
