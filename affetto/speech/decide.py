"""One phone for each frame out of soft posteriors: doubt would make mouths that mumble, each emotion its own way."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from affetto.speech.content import SpeechContent, closure_events
from affetto.speech.phones import BILABIALS, PHONES, TimedPhone

_SWITCH = (
    3.0  # nats that a change of phone costs: a change must be worth more than two or three doubtful frames
)
_FLOOR = 1e-4
_STRESS = 0.5  # of decided phones, whose stress nobody knows


def decide(
    posteriors: Float[np.ndarray, "frame phone"], *, switch: float = _SWITCH
) -> Int[np.ndarray, "frame"]:
    """The best path through all phones, where staying is free and every change costs `switch` nats (Viterbi)."""
    table = np.log(np.maximum(posteriors, _FLOOR)).astype(np.float64)
    frames, states = table.shape
    path = np.zeros(frames, np.int64)
    if frames == 0:
        return path
    stay = np.arange(states)
    came = np.zeros((frames, states), np.int64)
    score = table[0]
    for frame in range(1, frames):
        best = int(score.argmax())
        changed = score[best] - switch
        came[frame] = np.where(score >= changed, stay, best)
        score = np.maximum(score, changed) + table[frame]
    path[-1] = score.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came[frame, path[frame]]
    return path


def decided(content: SpeechContent) -> SpeechContent:
    """The same speech without doubt about phones and closures (see `closure_events`); what is decided stays so."""
    sure = np.eye(len(PHONES), dtype=np.float32)[decide(content.phones)]
    return replace(content, phones=sure, closure=closure_events(content).astype(np.float32))


def timed_phones(content: SpeechContent) -> tuple[TimedPhone, ...]:
    """The phones of a decided content as the rules want them; frame t spans t ± half.

    A bilabial closes the lips until the content last does so within it, or not at all when it never does.
    """
    labels = content.phones.argmax(axis=1)
    edges = np.flatnonzero(np.diff(labels, prepend=-1, append=-1))
    return tuple(
        _timed(content, PHONES[labels[first]], first, stop)
        for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )


def _timed(content: SpeechContent, name: str, first: int, stop: int) -> TimedPhone:
    start, end = max((first - 0.5) / content.fps, 0.0), (stop - 0.5) / content.fps
    if name not in BILABIALS:
        return TimedPhone(name, start, end, _STRESS)
    shut = np.flatnonzero(content.closure[first:stop] > 0.5)
    release = (first + int(shut[-1]) + 0.5) / content.fps if len(shut) else None
    return TimedPhone(name, start, end, _STRESS, release, closes=len(shut) > 0)
