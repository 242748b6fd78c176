"""Performances that come piece by piece: joined, and brought to another frame rate."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from affetto.media.animation.curves import ARKIT_52, FaceCurves

_CHANNELS = len(ARKIT_52) + 3 + 4  # weights, head, eyes


def join(pieces: Iterable[FaceCurves], fps: float) -> FaceCurves:
    """Consecutive pieces as one performance."""
    held = list(pieces)
    if not held:
        return FaceCurves.neutral(0, fps)
    return FaceCurves(
        fps=fps,
        weights=np.concatenate([piece.weights for piece in held]),
        head=np.concatenate([piece.head for piece in held]),
        eyes=np.concatenate([piece.eyes for piece in held]),
    )


def resampled_pieces(
    pieces: Iterable[Float[np.ndarray, "frame 59"]], source: float, fps: float
) -> Iterator[FaceCurves]:
    """Consecutive rows (52 weights, 3 of the head, 4 of the eyes) at `source` frames a second as curves at `fps`.

    Holds little more than one piece; the frames are those that the whole would give.
    """
    held, first, made = np.zeros((0, _CHANNELS), np.float32), 0, 0

    def frames(until: int) -> FaceCurves:
        position = np.arange(made, until) / fps * source - first
        low = np.clip(position.astype(int), 0, len(held) - 1)
        share = np.clip(position - low, 0.0, 1.0)[:, None].astype(np.float32)
        mixed = (1.0 - share) * held[low] + share * held[np.minimum(low + 1, len(held) - 1)]
        return FaceCurves(
            fps=fps, weights=mixed[:, :52], head=mixed[:, 52:55], eyes=mixed[:, 55:].reshape(-1, 2, 2)
        )

    for piece in pieces:
        held = np.concatenate([held, piece])
        until = int(np.floor((first + len(held) - 1) / source * fps)) if len(held) else made
        if until > made:
            yield frames(until)
            made = until
            forget = max(0, int(made / fps * source) - first - 1)
            held, first = held[forget:], first + forget
    total = round((first + len(held)) / source * fps)
    if len(held) and total > made:
        yield frames(total)
