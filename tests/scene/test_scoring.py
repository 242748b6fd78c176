from dataclasses import replace

import numpy as np
import pytest

from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.form import BarPlan, MusicPlan
from affetto.scene.scoring import MOST_BEND, key_hits, on_the_bar, turns

BAR = BarPlan(phrase=0, section="A", mode="major", chords=("C_M",) * 4, bpm=120.0, vad=(0.0, 0.0, 0.0))


def plan(bars: int = 8) -> MusicPlan:
    return MusicPlan(
        tonic=0, metre="4/4", bars=tuple(replace(BAR) for _ in range(bars)), ending="cadence", seed=0
    )


def test_bar_lines_move_onto_the_keys_and_the_length_stays():
    bent = on_the_bar(plan(), [4.3, 9.7])
    hits = key_hits(bent, [4.3, 9.7])
    assert max(hit.bar_ms for hit in hits) < 1.0
    assert bent.seconds == pytest.approx(plan().seconds)
    factor = np.array([bar.bpm for bar in bent.bars]) / 120.0
    assert factor.min() >= 1 / MOST_BEND - 1e-9
    assert factor.max() <= MOST_BEND + 1e-9


def test_keys_too_near_each_other_fall_on_beats():
    bent = on_the_bar(plan(), [4.1, 5.1])
    hits = key_hits(bent, [4.1, 5.1])
    assert max(hit.beat_ms for hit in hits) < 1.0


def test_a_key_out_of_reach_leaves_the_tempo_within_bounds():
    bent = on_the_bar(plan(), [0.25, 0.4])
    factor = np.array([bar.bpm for bar in bent.bars]) / 120.0
    assert factor.min() >= 1 / MOST_BEND - 1e-9
    assert factor.max() <= MOST_BEND + 1e-9
    assert all(hit.beat_ms <= 500 * hit.beat_s for hit in key_hits(bent, [0.25, 0.4]))


def test_turns_are_keys_at_which_the_emotion_really_moves():
    track = EmotionTrack.parse("0:neutral; 1:happy; 2:happy@0.98; 4:happy; 4.5:sad")
    assert turns(track, 10.0) == [1.0, 4.0, 4.5]
    assert turns(EmotionTrack.parse("happy"), 10.0) == []
