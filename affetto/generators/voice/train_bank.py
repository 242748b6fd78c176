"""The recipe behind `affetto train voice-bank`: what the takes of a corpus of acted speech have in common."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affetto.conditioning.charts import CHARTS
from affetto.conditioning.directions import DirectionalLatents, principal_axes
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.speech import TERMS
from affetto.conditioning.encoders.speech_network import SPEECH_CLASSES
from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.conditioning.mixtures import fit_mixture
from affetto.conditioning.track import EmotionTrack
from affetto.generators.voice.bank import (
    CRYING,
    NAMES,
    ROLES,
    VoiceBank,
    bank_vad,
    emotion_weights,
    frame_roles,
)
from affetto.generators.voice.bank_data import NEUTRAL, VoiceClip, read_corpus
from affetto.generators.voice.controls import VoiceControls, analyse
from affetto.generators.voice.pairs import GROUPS, Take, align, pair_residual
from affetto.generators.voice.speaker import SEMITONE, speaker_statistics
from affetto.generators.voice.warping import warp_alignment
from affetto.media.audio import Audio, load_audio
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent

HELD_OUT = ("03", "12", "14", "16")
"""EMO-DB's validation and test speakers; no other corpus has speakers of these names."""

KEEP = 0.95
"""Share of the embeddings' variance in whose principal axes directions are kept (EmoReg's denoising; ours to choose)."""

LEVEL_DB: Mapping[str, float] = {"angry": 16.4, "happy": 10.3, CRYING: 1.6, "sad": -1.9}
"""Loudness against neutral, measured in corpora that keep the level: RAVDESS, and nEMO for the low sadness."""

_LEVEL_PER_AROUSAL = 10.0  # dB; half the slope through RAVDESS's neutral and anger, for what nobody measured
_MIN_PAIRS = 3
_VAD_RIDGE = 0.05


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What a derived emotion does to a neutral voice by published measurements: against EMO-DB's scale of acting."""

    pitch: float  # semitones
    range_gain: float  # of the melody
    duration: float  # ratio


SHIFTS: Mapping[str, Shift] = {
    # RAVDESS's sadness is cried: F0 +2.9 st, its range -0.5 st (of about 2.5), 16 % longer
    CRYING: Shift(pitch=2.9, range_gain=0.82, duration=1.16),
    # nEMO's surprise: F0 +3.2 st where its joy has +2.6, range +1.4 st where joy has +1.1, as long as neutral;
    # times EMO-DB's joy (+8.2 and +1.7 st)
    "surprised": Shift(pitch=9.0, range_gain=1.75, duration=1.0),
}
"""Used where the corpus lacks the emotion; everything else about it comes from a regression on VAD."""


def train_voice_bank(
    data: str | Path,
    output: Path,
    *,
    seed: int = 0,
    seconds: float = 3600.0,
    resume: bool = False,
    held_out: Sequence[str] = HELD_OUT,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Make a bank from a corpus (`KIND:FOLDER` or a folder), write it to `output`, return what it found.

    Controls of every recording are kept in `<output>.controls` until the bank is written; after `seconds` of analysis
    the work stops there and `resume` goes on.
    """
    clips = [clip for clip in read_corpus(data) if clip.speaker not in held_out]
    if not clips:
        raise InvalidInputError(f"{data}: holds only the speakers that are held out ({', '.join(held_out)})")
    folder = Path(output).with_suffix(".controls")
    folder.mkdir(exist_ok=True)
    if not resume:
        for old in folder.glob("*.npz"):
            old.unlink()
    embedder = VoiceEmbedder.from_pretrained("embedded", device="cpu")
    began, takes = time.monotonic(), []
    for index, clip in enumerate(clips):
        if time.monotonic() - began > seconds:
            raise TryAgainError(f"{folder}: the time is up after {index} recordings: run again with resume")
        takes.append(read_take(clip, embedder, folder / f"{index:05d}.npz"))
        if progress is not None and index % 10 == 9:
            progress(ProgressEvent(stage="voice-bank", done=index + 1, total=len(clips)))
    bank, report = fit_bank(takes, embedder, seed=seed)
    bank.save(output)
    for old in folder.glob("*.npz"):
        old.unlink()
    folder.rmdir()
    return report


def read_take(clip: VoiceClip, embedder: VoiceEmbedder, cache: Path) -> Take:
    """Controls and embedding of a recording, from `cache` when they are there."""
    if cache.is_file():
        with np.load(cache) as file:
            controls, embedding = VoiceControls.from_stack(file["controls"]), file["embedding"]
    else:
        audio = load_audio(clip.path)
        if clip.heard_s is not None:
            audio = audio.sliced(0.0, clip.heard_s)
        controls = analyse(audio.mono(), audio.rate)
        embedding = embedder(_padding_cut(audio))[0].numpy()
        with atomic_path(cache) as temporary:
            np.savez(temporary, controls=controls.stack(), embedding=embedding)
    return Take(
        name=clip.path.stem, speaker=clip.speaker, text=clip.text_id, emotion=clip.emotion, controls=controls,
        phones=clip.phones or (), embedding=embedding.astype(np.float64), weight=clip.strength,
        heard_s=math.inf if clip.heard_s is None else clip.heard_s,
    )  # fmt: skip


def _padding_cut(audio: Audio) -> Audio:
    sounding = np.flatnonzero(np.abs(audio.samples).max(axis=0))
    return audio.sliced(0.0, (int(sounding[-1]) + 1) / audio.rate) if len(sounding) else audio


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the pairs of one emotion have in common."""

    residual: Float[np.ndarray, "3 30"]
    pitch_slope: float
    pitch_range: float
    pairs: int


def fit_bank(
    takes: Sequence[Take], embedder: VoiceEmbedder, *, seed: int = 0
) -> tuple[VoiceBank, dict[str, Any]]:
    """A bank from takes with their emotions, and a report of what each emotion does."""
    named = _named(takes)
    changes = {name: change for name in NAMES if (change := _change(named, name)) is not None}
    if not changes:
        raise InvalidInputError(
            "no emotion has three takes beside neutral ones of the same speaker and words"
        )
    share = np.mean(
        [frame_roles(t.controls, speaker_statistics(t.controls).level).mean(axis=0) for t in named if t.emotion == NEUTRAL],
        axis=0,
    )  # fmt: skip
    residual, slope, spread = _completed(changes)
    directions, axes = fit_directions(named, embedder, seed=seed)
    derived = tuple(name for name in NAMES if name not in changes)
    bank = VoiceBank(
        residual=residual, role_share=share / share.sum(), pitch_slope=slope, pitch_range=spread,
        level_db=_levels(), axes=axes, directions=directions, derived=derived,
        about={"speakers": " ".join(sorted({t.speaker for t in takes})), "takes": str(len(takes))},
    )  # fmt: skip
    return bank, _report(bank, changes)


def _named(takes: Sequence[Take]) -> list[Take]:
    """The takes under the bank's names, `sad` under that of its two forms which its pitch tells; others left out."""
    found = []
    for take in takes:
        if take.emotion == NEUTRAL or take.emotion in NAMES:
            found.append(take)
            continue
        weights = emotion_weights(
            EmotionTrack.constant(Emotion.from_label(take.emotion)).sample(np.zeros(1))
        )[0]
        best = int(weights.argmax())
        if weights[best] > 0.5:
            found.append(replace(take, emotion=NAMES[best], weight=take.weight * float(weights[best])))
    low = _change(found, "sad")
    if low is not None and low.residual[ROLES.index("voiced"), 0] > 1.0:
        found = [replace(take, emotion=CRYING) if take.emotion == "sad" else take for take in found]
    return found


def _change(takes: Sequence[Take], emotion: str) -> Change | None:
    """Role by role the mean residual over all aligned pairs of neutral and this emotion; None with too few of them."""
    sums, counts = np.zeros((len(ROLES), 30)), np.full((len(ROLES), len(GROUPS)), 1e-9)
    rows: list[tuple[float, ...]] = []
    sources = [take for take in takes if take.emotion == NEUTRAL]
    for target in takes:
        for source in sources if target.emotion == emotion else ():
            if (source.speaker, source.text) != (target.speaker, target.text):
                continue
            found = _pair(source, target)
            if found is None:
                continue
            residual, trust, row = found
            for group, columns in enumerate(GROUPS):
                share = trust[:, :, group].T * target.weight
                sums[:, columns] += share @ residual[:, columns]
                counts[:, group] += share.sum(axis=1)
            rows.append((target.weight, *row))
    return _summed(sums, counts, np.array(rows)) if len(rows) >= _MIN_PAIRS else None


def _pair(
    source: Take, target: Take
) -> tuple[Float[np.ndarray, "frame 30"], Float[np.ndarray, "frame 3 5"], tuple[float, ...]] | None:
    """The residual of a pair, how far each role and group is to be believed, and four numbers; None with too little in common.

    The residual is that of full strength and has the ratio of durations in its last column. The numbers: the speaker's
    pitch in semitones above 160 Hz, the pitch shift, the logs of the range gain and of what pauses add to the duration.
    """
    marked = bool(source.phones and target.phones)
    alignment = align(source, target) if marked else warp_alignment(source.controls, target.controls)
    pair = pair_residual(source, target, alignment)
    sure = pair.trust[:, 0] > 0.5
    if pair.trust[:, 1].sum() < 30 or sure.sum() < 15:
        return None
    speaker = speaker_statistics(source.controls)
    trust = frame_roles(source.controls, speaker.level)[:, :, None] * pair.trust[:, None]
    residual = pair.residual.astype(np.float64)
    pitch = source.controls.log_f0[sure].astype(np.float64)
    gain = _log_range(pitch + residual[sure, 0] / SEMITONE) - _log_range(pitch)
    here, there = (np.diff(span).sum() for span in (alignment.source, alignment.target))
    whole = np.log(np.ptp(alignment.target) / np.ptp(alignment.source)) - np.log(there / here)
    # a take acted at half strength tells of twice the change
    residual = residual / target.weight
    residual[:, 29] = np.exp(residual[:, 29])
    above = (speaker.log_f0 - math.log(160.0)) * SEMITONE
    shift = float(residual[sure, 0].mean())
    return residual, trust, (above, shift, gain / target.weight, float(whole) / target.weight)


def _log_range(pitch: Float[np.ndarray, "frame"]) -> float:
    """Log of the spread of a melody, by deciles, so that slips of the pitch do not count."""
    low, high = np.quantile(pitch, [0.1, 0.9])
    return math.log(max(high - low, 0.02))


def _summed(
    sums: Float[np.ndarray, "3 30"], counts: Float[np.ndarray, "3 5"], rows: Float[np.ndarray, "pair 5"]
) -> Change:
    residual = np.zeros((len(ROLES), 30))
    for group, columns in enumerate(GROUPS):
        # a role that was hardly seen does what all roles together do
        everywhere = sums[:, columns].sum(axis=0) / counts[:, group].sum()
        residual[:, columns] = (sums[:, columns] + 100.0 * everywhere) / (counts[:, group, None] + 100.0)
    weight = rows[:, 0]
    slope, residual[:, 0] = _slope(rows)
    residual[:, 29] = np.log(residual[:, 29]) + np.average(rows[:, 4], weights=weight)
    # voiced frames keep their level, so that a change of loudness is asked for apart; pauses hold nothing but a room
    residual[:, 1] -= residual[0, 1]
    residual[ROLES.index("pause"), 1:29] = 0.0
    # some corpora end below the highest band: it does what its neighbour does
    residual[:, 25] = residual[:, 24]
    residual[:, 2:26] -= residual[:, 2:26].mean(axis=1, keepdims=True)
    spread = float(np.clip(np.average(rows[:, 3], weights=weight), -1.0, 1.0))
    return Change(residual=residual, pitch_slope=slope, pitch_range=spread, pairs=len(rows))


def _slope(table: Float[np.ndarray, "pair 5"]) -> tuple[float, float]:
    """The pitch shift as a straight line over the speaker's pitch: slope, drawn strongly to 0, and value at 160 Hz."""
    weight, above, shift = table[:, 0], table[:, 1], table[:, 2]
    middle = np.average(above, weights=weight)
    centred = above - middle
    ridge = 10.0 * weight.sum()  # as if pitch varied by sqrt(10) semitones more, without effect
    slope = float((weight * centred * shift).sum() / ((weight * centred**2).sum() + ridge))
    return slope, float(np.average(shift, weights=weight) - slope * middle)


def _completed(
    changes: Mapping[str, Change],
) -> tuple[Float[np.ndarray, "name 3 30"], Float[np.ndarray, "name"], Float[np.ndarray, "name"]]:
    """The changes of all names: measured, or by ridge regression on VAD with the published shifts for what has one."""
    vad = bank_vad() - CHARTS["voice"].mean_of(NEUTRAL)
    known = [NAMES.index(name) for name in changes]
    rows = np.stack(
        [np.concatenate([c.residual.ravel(), [c.pitch_slope, c.pitch_range]]) for c in changes.values()]
    )
    x = vad[known]
    slopes = np.linalg.solve(x.T @ x + _VAD_RIDGE * len(x) * np.eye(3), x.T @ rows)
    full = vad @ slopes
    # how slowly one speaks goes with arousal; valence would make calm speech hasty, as boredom and sadness are slow
    pace = [*range(29, 90, 30)]
    arousal = x[:, 1:2]
    full[:, pace] = (
        vad[:, 1:2] @ (arousal.T @ rows[:, pace]) / (float(np.square(arousal).sum()) + _VAD_RIDGE * len(x))
    )
    full[known] = rows
    residual = full[:, :-2].reshape(len(NAMES), len(ROLES), 30)
    slope, spread = full[:, -2].copy(), full[:, -1].copy()
    slope[[name not in changes for name in NAMES]] = 0.0
    for name, shift in SHIFTS.items():
        if name not in changes:
            index = NAMES.index(name)
            residual[index, :, 0] = shift.pitch
            residual[index, :, 29] = math.log(shift.duration)
            spread[index] = math.log(shift.range_gain)
    return residual, slope, spread


def _levels() -> Float[np.ndarray, "name"]:
    arousal = bank_vad()[:, 1] - CHARTS["voice"].mean_of(NEUTRAL)[1]
    return np.array(
        [LEVEL_DB.get(name, _LEVEL_PER_AROUSAL * float(a)) for name, a in zip(NAMES, arousal, strict=True)]
    )


def fit_directions(
    takes: Sequence[Take], embedder: VoiceEmbedder, *, seed: int = 0
) -> tuple[DirectionalLatents, Float[np.ndarray, "axis 256"]]:
    """Calibrated directions for all of `NAMES`, and the principal axes of the embeddings.

    An emotion without takes is given the neutral ones moved by the regression of the embedding on VAD.
    """
    latents = torch.from_numpy(np.stack([take.embedding for take in takes])).float()
    labels = [take.emotion for take in takes]
    vad = torch.from_numpy(bank_vad()).float()
    rest = torch.from_numpy(CHARTS["voice"].mean_of(NEUTRAL)).float()
    places = torch.stack([rest if label == NEUTRAL else vad[NAMES.index(label)] for label in labels])
    by_vad = DirectionalLatents.from_vad(latents, places, ridge=0.05 * len(latents))
    slopes = by_vad.scale[:, None] * by_vad.directions
    neutral = latents[[label == NEUTRAL for label in labels]]
    for index, name in enumerate(NAMES):
        if name not in labels:
            latents = torch.cat([latents, neutral + (vad[index] - rest) @ slopes])
            labels = [*labels, *[name] * len(neutral)]
    axes = principal_axes(latents, KEEP)
    parts = _parts((neutral.double() - neutral.double().mean(0)) @ axes.T, seed)
    if parts > 1:
        fitted = DirectionalLatents.from_local_means(latents, labels, parts=parts, seed=seed, keep=KEEP)
    else:
        fitted = DirectionalLatents.from_means(latents, labels, keep=KEEP)
    ordered = [fitted.index(name) for name in NAMES]
    fitted = DirectionalLatents(
        names=NAMES, directions=fitted.directions[ordered], scale=fitted.scale[ordered], neutral=fitted.neutral,
        local=fitted.local and _reordered(fitted, ordered),
    )  # fmt: skip
    return fitted.calibrated(neutral, _probe(embedder, vad - rest)), axes.numpy()


def _reordered(fitted: DirectionalLatents, rows: list[int]) -> Any:

    assert fitted.local is not None
    return replace(fitted.local, shifts=fitted.local.shifts[rows])


def _parts(points: Float[Tensor, "item axis"], seed: int) -> int:
    """How many Gaussians the neutral embeddings call for (1 to 3), by Schwarz's criterion."""
    best, fewest = 1, math.inf
    for parts in range(1, 4):
        mixture = fit_mixture(points, parts, seed=seed)
        likelihood = float(mixture.log_joint(points).logsumexp(-1).sum())
        numbers = parts * (2 * points.shape[1] + 1) - 1
        score = numbers * math.log(len(points)) - 2 * likelihood
        if score < fewest:
            best, fewest = parts, score
    return best


def _probe(embedder: VoiceEmbedder, places: Float[Tensor, "name 3"]) -> Any:
    """What each direction is measured by: the embedder's probability of its class, else its VAD along the emotion's own."""
    classes = {TERMS[klass]: column for column, klass in enumerate(SPEECH_CLASSES)}
    units = places / places.norm(dim=-1, keepdim=True)

    def probe(latents: Tensor) -> Tensor:
        probability, vad = embedder.read(latents)
        columns = [
            probability[..., classes[name]] if name in classes else vad @ units[row]
            for row, name in enumerate(NAMES)
        ]
        return torch.stack(columns, dim=-1)

    return probe


def _report(bank: VoiceBank, changes: Mapping[str, Change]) -> dict[str, Any]:
    calibration = bank.directions.calibration
    assert calibration is not None
    mean = bank.mean_residual(np.eye(len(NAMES)))
    report: dict[str, Any] = {}
    for row, name in enumerate(NAMES):
        tilt = bank.residual[row, 0, 2:26]
        report[name] = {
            "pairs": changes[name].pairs if name in changes else 0,
            "pitch_st": round(float(bank.residual[row, 0, 0]), 2),
            "pitch_slope": round(float(bank.pitch_slope[row]), 3),
            "range_gain": round(math.exp(bank.pitch_range[row]), 3),
            "duration": [round(math.exp(bank.residual[row, role, 29]), 3) for role in range(len(ROLES))],
            "tilt_db": round(float(tilt[12:].mean() - tilt[:12].mean()), 2),
            "noise": [round(float(v), 3) for v in bank.residual[row, 0, 26:29]],
            "energy_db": [round(float(bank.residual[row, role, 1]), 2) for role in range(len(ROLES))],
            "mean_duration": round(math.exp(mean[row, 29]), 3),
            "direction": round(float(bank.directions.scale[row]), 3),
            "linearity": [
                round(calibration.linearity_before[row], 3),
                round(calibration.linearity_after[row], 3),
            ],
            "leakage": round(calibration.leakage[row], 3),
        }
    return report
