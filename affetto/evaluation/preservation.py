"""What an emotion must not change: words, speaker, lips on the sound, the person seen, the tune; and quality."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from affetto.acting.lip_sync import lip_lag
from affetto.evaluation.face_metrics import lip_vertex_error
from affetto.evaluation.music_metrics import METRICS, metrics_of
from affetto.evaluation.voice_features import listen
from affetto.evaluation.voice_metrics import content, content_distance, cues, timbre
from affetto.head.model import HeadModel
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio
from affetto.media.midi import Score
from affetto.media.video import read_frames
from affetto.speech.content import RATE
from affetto.speech.reader import ContentReader

if TYPE_CHECKING:
    from affetto.evaluation.video_faces import SeenFaces


def words_and_speaker(audio: Audio, source: Audio) -> dict[str, float | str]:
    """Distance of the words (0 is the same sound; two takes by one actor lie near 3.6) and likeness of the timbre."""
    heard, before = listen(audio), listen(source)
    one, two = timbre(heard), timbre(before)
    after, was = cues(heard), cues(before)
    return {
        "words, DTW distance": content_distance(content(heard), content(before)),
        "speaker, timbre correlation": float(np.corrcoef(one, two)[0, 1]),
        "pitch moved, semitones": after.pitch - was.pitch,
        "length, ratio": after.seconds / max(was.seconds, 1e-3),
    }


def sound_quality(audio: Audio, reference: Audio) -> dict[str, float | str]:
    """Log-spectral distance of two recordings of the same words, along the best alignment, dB."""
    one, two = listen(audio), listen(reference)
    count = min(len(one), len(two))
    at = np.linspace(0, len(two) - 1, count).astype(int)
    gap = (one.mels[:count] - two.mels[at]) * (10.0 / np.log(10.0))
    return {"log-spectral distance, dB": float(np.sqrt(np.square(gap).mean(axis=1)).mean())}


def lips(curves: FaceCurves, audio: Audio) -> dict[str, float | str]:
    """Milliseconds by which the lips follow the phones that are heard, and how much these explain of their opening."""
    reader = ContentReader.from_pretrained("embedded", device=torch.device("cpu"))
    heard = reader(audio.resampled(RATE).mono())
    found = lip_lag(curves, heard, HeadModel.load())
    if found is None:
        return {"lips behind sound": "cannot be told: lips and sound hardly agree"}
    return {"lips behind sound, ms": 1000 * found[0], "lips explained by the sound, 0..1": found[1]}


def curve_quality(curves: FaceCurves, reference: FaceCurves) -> dict[str, float | str]:
    """Largest vertex distance of a frame, mean over up to a hundred frames, % of the inter-pupil distance."""
    head = HeadModel.load()
    other = reference.resampled(curves.fps)
    count = min(len(curves), len(other))
    frames = np.unique(np.linspace(0, count - 1, min(count, 100)).astype(int))
    ours, theirs = (head.deform(each.weights[frames]) for each in (curves, other))
    centres = np.asarray(head.mesh.eye_centres)
    ipd = float(np.linalg.norm(centres[0] - centres[1]))
    return {"largest vertex error, % of IPD": lip_vertex_error(ours, theirs, ipd)}


def melody(score: Score, source: Score) -> dict[str, float | str]:
    """Likeness of two tunes: their contours along the best alignment, and overlap of pitch classes."""
    one, two = (_tune(each) for each in (score, source))
    if len(one) < 3 or len(two) < 3:
        return {}
    first, second = np.diff(one)[:, None], np.diff(two)[:, None]
    shares = [np.bincount(each.astype(int) % 12, minlength=12) / len(each) for each in (one, two)]
    found: dict[str, float | str] = {
        "melody, contour distance in semitones": content_distance(first, second),
        "pitch classes, overlap": float(np.minimum(*shares).sum()),
    }
    mine, theirs = metrics_of(score), metrics_of(source)
    return found | {f"{name}, difference": mine[name] - theirs[name] for name in METRICS[:3]}


def _tune(score: Score) -> Float[np.ndarray, "note"]:
    """The highest note of each moment at which notes begin."""
    notes = score.pitched().notes
    starts, group = np.unique(np.round(notes["start"], 2), return_inverse=True)
    top = np.full(len(starts), -1.0)
    np.maximum.at(top, group, notes["pitch"].astype(np.float64))
    return top


def identity(seen: "SeenFaces") -> dict[str, float | str]:
    """How steadily the same person is seen: spread of the fitted identity over the video, in its own units."""
    if len(seen.identity) < 2:
        return {}
    spread = float(np.sqrt(np.square(seen.identity - seen.identity.mean(axis=0)).mean()))
    return {"identity, spread of coefficients": spread}


def video_quality(path: Path, reference: Path) -> dict[str, float | str]:
    """PSNR (dB) and SSIM of luma, frame by frame, of two videos of the same size."""
    from skimage.metrics import structural_similarity

    noise: list[float] = []
    likeness: list[float] = []
    for (_, one), (_, two) in zip(read_frames(path), read_frames(reference), strict=False):
        if one.shape != two.shape:
            return {"quality": "the reference has another size"}
        a, b = (each.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]) for each in (one, two))
        noise.append(10 * np.log10(255.0**2 / max(float(np.square(a - b).mean()), 1e-3)))
        likeness.append(float(np.asarray(structural_similarity(a, b, data_range=255.0))))
    return {"PSNR, dB": float(np.mean(noise)), "SSIM": float(np.mean(likeness))} if noise else {}
