"""Which moments of two takes of the same sentence belong together, where no phone marks tell."""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from affetto.generators.voice.controls import CONTROL_FPS, VoiceControls
from affetto.generators.voice.pairs import Alignment, speech_level

_SPAN = 6  # frames of the source in one stretch


def warp_alignment(source: VoiceControls, target: VoiceControls) -> Alignment:
    """Stretches of about 60 ms along the cheapest warping path between the envelopes, energies and voicing of two takes."""
    path = _path(_features(source), _features(target))
    anchors = [0]
    for index in range(1, len(path)):
        moved = path[index] - path[anchors[-1]]
        if moved[0] >= _SPAN and moved[1] >= 1:
            anchors.append(index)
    times = path[anchors].astype(np.float64) / CONTROL_FPS
    if len(times) < 2:
        return Alignment(source=np.zeros((0, 2)), target=np.zeros((0, 2)))
    bounds = np.stack([times[:-1], times[1:]], axis=-1)
    return Alignment(source=bounds[:, 0], target=bounds[:, 1])


def _features(controls: VoiceControls) -> Float[np.ndarray, "frame feature"]:
    loud = np.clip(controls.energy - speech_level(controls), -40.0, 10.0)[:, None] / 10.0
    heard = np.clip(loud + 3.5, 0.0, 1.0)  # the colour of pauses says nothing
    shape = controls.envelope - controls.envelope.mean(axis=0)
    return np.concatenate([heard * shape / 12.0, loud, 0.7 * controls.voiced[:, None]], axis=1).astype(
        np.float64
    )


@numba.njit(cache=True)
@no_type_check
def _path(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    rows, columns = len(one), len(other)
    cost = np.full((rows + 1, columns + 1), np.inf)
    came = np.zeros((rows + 1, columns + 1), np.uint8)
    cost[0, 0] = 0.0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            distance = 0.0
            for k in range(one.shape[1]):
                distance += (one[i - 1, k] - other[j - 1, k]) ** 2
            distance = distance**0.5
            best, step = cost[i - 1, j - 1] + 1.6 * distance, 0
            if cost[i - 1, j] + distance < best:
                best, step = cost[i - 1, j] + distance, 1
            if cost[i, j - 1] + distance < best:
                best, step = cost[i, j - 1] + distance, 2
            cost[i, j], came[i, j] = best, step
    path = np.empty((rows + columns, 2), np.int64)
    length, i, j = 0, rows, columns
    while i > 0 and j > 0:
        path[length, 0], path[length, 1] = i - 1, j - 1
        length += 1
        step = came[i, j]
        if step != 2:
            i -= 1
        if step != 1:
            j -= 1
    return path[:length][::-1]
