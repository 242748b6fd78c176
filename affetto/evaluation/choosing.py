"""The critic that chooses among candidates in `--best-of`; it is never the one that `evaluate` reports.

Voices are chosen by the embedded speech encoder (reported: the voice critic), faces by how near they come to the poses
of the rules (reported: the face critic), music by the composer's own formula (reported: cues that it is not
conditioned on).
"""

import numpy as np

from affetto.acting.expression import expression_pose
from affetto.conditioning.track import EmotionTrack
from affetto.evaluation.critics import measure_music, measure_voice
from affetto.evaluation.measuring import Measured, target_course
from affetto.evaluation.scores import js_divergence, vad_error
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.media.audio import Audio
from affetto.media.midi import Score

_UPPER = np.array(
    [not name.startswith(("mouth", "jaw", "tongue", "eyeLook", "eyeBlink")) for name in ARKIT_52]
)


class ChoosingCritic:
    """Scores candidates; higher is nearer to what was asked."""

    def voice(self, audio: Audio, source: Audio, track: EmotionTrack) -> float:
        """How near a converted line comes to its track, by the speech encoder."""
        return _nearness(measure_voice(audio, encoder="speech-emotion"), track)

    def face(self, curves: FaceCurves, track: EmotionTrack) -> float:
        """How near the upper face comes to the poses that the rules have for the track."""
        batch = track.sample(curves.times)
        wanted = expression_pose(batch.anchors().astype(np.float64), batch.effective_vad.astype(np.float64))
        gap = (curves.weights - wanted)[:, _UPPER]
        return -float(np.sqrt(np.square(gap).mean()))

    def music(self, score: Score, track: EmotionTrack) -> float:
        """How near a piece comes to its track, by the formula."""
        return _nearness(measure_music(score, encoder="formula"), track.for_modality("music"))


def _nearness(part: Measured, track: EmotionTrack) -> float:
    """Less than zero: distance in standard deviations and divergence of mixtures."""
    vad, anchors = target_course(track, part.times, window_s=2.0)
    return -vad_error(part.vad, vad)[1] - js_divergence(part.anchors(), anchors)
