"""What a creator wants (a scene), and the director that makes all of it from one emotion track, in sync."""
