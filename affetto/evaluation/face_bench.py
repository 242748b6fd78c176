"""`affetto bench face`: the figures of the face animator, each beside its baseline and its ceiling.

Without a data folder the bench measures speed, memory and determinism on the demo's sentence; with one (holding
`speech/emodb` and `speech/dutch_flemishguy`) it adds what needs labelled speech of voices never trained on.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.evaluation.bench_parts import (
    FPS,
    Row,
    chosen,
    demo_speech,
    energy_jaw,
    peak_mib,
    row,
    sound_of,
    speaking_frames,
)
from affetto.evaluation.face_critic import FaceCritic, rule_performance
from affetto.evaluation.face_metrics import (
    ClosureScore,
    closure_score,
    face_dynamics_deviation,
    jerk,
    lip_vertex_error,
    pooled,
    spearman,
    sync_offset,
)
from affetto.evaluation.face_sets import dutch_test, emodb_test
from affetto.generators.face.performance import FaceOptions
from affetto.generators.face.pipeline import FaceAnimator
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_INDEX, FaceCurves
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.speech.corpus import Utterance
from affetto.speech.phones import closure_windows

_STILL = FaceOptions(fps=FPS, head_motion=0.0, blinks=0.0, gaze=0.0)
_INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
_CLIPS = 24

Animate = Callable[[Utterance, Emotion], FaceCurves]


def run(
    data: Path | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    callback: ProgressCallback | None = None,
) -> list[Row]:
    """All figures as rows of measure, value, baseline, ceiling, bar, and whether the bar holds."""
    animator = FaceAnimator.from_pretrained("embedded", device=device, dtype=dtype)
    bench = _Bench(animator, HeadModel.load(), FaceCritic.from_pretrained(), seed)
    parts: list[Callable[[], Iterator[Row]]] = [bench.speed, bench.sameness, bench.memory]
    if data is not None:
        test = chosen(emodb_test(data), seed)
        dutch = chosen(dutch_test(data), seed)
        parts += [
            lambda: bench.lips(test, "new speakers (German)"),
            lambda: bench.lips(dutch, "new language (Dutch)"),
            lambda: bench.emotion(test),
            lambda: bench.motion(test),
        ]
    rows: list[Row] = []
    for index, part in enumerate(parts):
        rows.extend(part())
        if callback is not None:
            callback(ProgressEvent(stage="bench face", done=index + 1, total=len(parts)))
    return rows


@dataclass(frozen=True)
class _Bench:
    animator: FaceAnimator
    head: HeadModel
    critic: FaceCritic
    seed: int

    def animate(self, utterance: Utterance, emotion: Emotion) -> FaceCurves:
        """The network's performance from the sound alone, with nothing but speech and emotion in it."""
        return self.animator.perform(self.animator.plan(sound_of(utterance), emotion, options=_STILL))

    def by_rule(self, utterance: Utterance, emotion: Emotion) -> FaceCurves:
        """The ceiling: rules that know the phones and their times."""
        return rule_performance(utterance, emotion, seed=self.seed)

    def speed(self) -> Iterator[Row]:
        """Real-time factor of sound to curves, the models loaded: of the processor, and by the clock."""
        speech = demo_speech(60.0)
        self.animator(speech, "happy")
        started, worked = time.perf_counter(), time.process_time()
        self.animator(speech, "happy")
        factor = (time.process_time() - worked) / speech.seconds
        clock = (time.perf_counter() - started) / speech.seconds
        yield row(
            "real-time factor, sound to curves, processor time", factor, bar="<= 0.05", holds=factor <= 0.05
        )
        yield row("real-time factor by the clock, as busy as the machine is", clock)

    def sameness(self) -> Iterator[Row]:
        """Same seed, same bytes; intensity 0 is neutral; a stream is the whole."""
        speech = demo_speech(24.0)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{index}.csv" for index in range(2)]
            for file in files:
                self.animator(speech, "0:angry@0.7; 3:sad", seed=self.seed).save(file)
            same = files[0].read_bytes() == files[1].read_bytes()
        yield row("same seed gives the same bytes (1 = yes)", same, bar="1", holds=same)
        neutral = self.animator(speech, None, seed=self.seed).curves
        zero = self.animator(speech, "angry@0", seed=self.seed).curves
        equal = all(
            np.array_equal(getattr(neutral, part), getattr(zero, part))
            for part in ("weights", "head", "eyes")
        )
        yield row("intensity 0 is neutral, bit for bit (1 = yes)", equal, bar="1", holds=equal)
        whole = self.animator(speech, "angry").curves.weights
        streamed = np.concatenate([piece.weights for _, piece in self.animator.stream(speech, "angry")])
        distance = float(np.abs(whole - streamed).mean())
        yield row(
            "mean difference between a stream and the whole", distance, bar="<= 0.01", holds=distance <= 0.01
        )

    def memory(self) -> Iterator[Row]:
        """Growth of peak memory from one minute of sound to ten, each in a process of its own."""
        with tempfile.TemporaryDirectory() as folder:
            short, long = (
                peak_mib(_MEMORY_PROGRAM, Path(folder) / f"{seconds:.0f}.wav", seconds)
                for seconds in (60.0, 600.0)
            )
        yield row(
            "peak memory, 10 minutes over 1 minute, MiB", long - short, bar="<= 32", holds=long - short <= 32
        )

    def lips(self, utterances: Sequence[Utterance], who: str) -> Iterator[Row]:
        """Bilabial closure and sync on labelled speech."""
        neutral = Emotion.neutral()
        ways: Mapping[str, Animate] = {
            "affetto": self.animate,
            "baseline": energy_jaw,
            "ceiling": self.by_rule,
        }
        closures: dict[str, ClosureScore] = {}
        for name, way in ways.items():
            closures[name] = pooled(
                [self._closure(utterance, way(utterance, neutral)) for utterance in utterances]
            )
        for field, label, bar in (
            ("recall", "bilabials on which the lips close", ">= 0.95"),
            ("precision", "closures that are bilabials", ""),
            ("shut_share", "share of speech with the lips shut", ""),
        ):
            values = {name: getattr(score, field) for name, score in closures.items()}
            holds = values["affetto"] >= 0.95 if bar else None
            yield row(
                f"{label}, {who}",
                values["affetto"],
                baseline=values["baseline"],
                ceiling=values["ceiling"],
                bar=bar,
                holds=holds,
            )
        offsets = {name: self._offsets(utterances, way) for name, way in ways.items() if name != "ceiling"}
        middle = float(np.median(offsets["affetto"]))
        yield row(
            f"sync: median lag of the lips, seconds, {who}",
            middle,
            baseline=float(np.median(offsets["baseline"])),
            ceiling=0.0,
            bar="within 0.040",
            holds=abs(middle) <= 0.040,
        )
        inside = float(np.mean(np.abs(offsets["affetto"]) <= 0.060))
        base = float(np.mean(np.abs(offsets["baseline"]) <= 0.060))
        yield row(f"clips in sync within a frame and a half, {who}", inside, baseline=base, ceiling=1.0)

    def _closure(self, utterance: Utterance, curves: FaceCurves) -> ClosureScore:
        spoken = speaking_frames(utterance)
        gap = self.head.lip_gap(curves.weights)
        count = min(len(gap), len(spoken))
        return closure_score(gap[:count], FPS, closure_windows(utterance.phones), spoken[:count])

    def _offsets(self, utterances: Sequence[Utterance], way: Animate) -> Float[np.ndarray, "clip"]:
        """Lag of lip opening behind what the phones' true times ask for."""
        neutral = Emotion.neutral()
        return np.array(
            [
                sync_offset(
                    self.head.lip_gap(way(utterance, neutral).weights),
                    self.head.lip_gap(self.by_rule(utterance, neutral).weights),
                    FPS,
                )
                for utterance in utterances
            ]
        )

    def emotion(self, utterances: Sequence[Utterance]) -> Iterator[Row]:
        """Whether a critic that judges only finds the emotion asked for, and the same visemes beneath it."""
        hits, ceiling_hits, sweeps = [], [], []
        named = range(1, len(ANCHORS_8))
        for utterance in utterances:
            for anchor in named:
                shown = [
                    self.critic.emotions(
                        self.animate(utterance, Emotion.from_label(ANCHORS_8[anchor], strength))
                    )
                    for strength in _INTENSITIES
                ]
                hits.append(int(shown[-1].argmax()) == anchor)
                sweeps.append([float(probabilities[anchor]) for probabilities in shown])
                ruled = self.by_rule(utterance, Emotion.from_label(ANCHORS_8[anchor], 1.0))
                ceiling_hits.append(int(self.critic.emotions(ruled).argmax()) == anchor)
        found = float(np.mean(hits))
        yield row(
            "emotion found by the critic at intensity 1",
            found,
            baseline=1 / len(named),
            ceiling=float(np.mean(ceiling_hits)),
            bar=">= 0.90",
            holds=found >= 0.90,
        )
        rising = float(np.mean([spearman(_INTENSITIES, sweep) for sweep in sweeps]))
        yield row(
            "asked against found intensity (mean Spearman)", rising, bar=">= 0.90", holds=rising >= 0.90
        )
        yield from self._visemes(utterances)

    def _visemes(self, utterances: Sequence[Utterance]) -> Iterator[Row]:
        """Of each phone, the viseme that the lips make most in its middle half, in a happy and an angry version."""
        pair = (Emotion.from_label("happy", 1.0), Emotion.from_label("angry", 1.0))
        agreement: dict[str, float] = {}
        for name, way in (("affetto", self.animate), ("ceiling", self.by_rule)):
            same = []
            for utterance in utterances:
                happy, angry = (self.critic.visemes(way(utterance, emotion)) for emotion in pair)
                for first, stop in _middles(utterance, min(len(happy), len(angry))):
                    one, other = (np.bincount(read[first:stop]).argmax() for read in (happy, angry))
                    same.append(one == other)
            agreement[name] = float(np.mean(same))
        value = agreement["affetto"]
        yield row(
            "phones with the same viseme in happy and angry versions",
            value,
            ceiling=agreement["ceiling"],
            bar=">= 0.90",
            holds=value >= 0.90,
        )

    def motion(self, utterances: Sequence[Utterance]) -> Iterator[Row]:
        """Lip error, upper-face liveliness and smoothness against the rules' performance of the same emotion."""
        errors, baselines, dynamics, ratios = [], [], [], []
        for index, utterance in enumerate(utterances):
            emotion = Emotion.from_label(ANCHORS_8[1 + index % 7], 1.0)
            target, shown = self.by_rule(utterance, emotion), self.animate(utterance, emotion)
            count = min(len(target), len(shown))
            wanted = self.head.deform(target.weights[:count])
            made = self.head.deform(shown.weights[:count])
            lips, upper = _regions(self.head)
            errors.append(lip_vertex_error(made[:, lips], wanted[:, lips], self.head.ipd))
            flat = np.repeat(wanted.mean(axis=0, keepdims=True), count, axis=0)
            baselines.append(lip_vertex_error(flat[:, lips], wanted[:, lips], self.head.ipd))
            dynamics.append(face_dynamics_deviation(made[:, upper], wanted[:, upper], self.head.ipd))
            ratios.append(jerk(shown.weights, FPS) / max(jerk(target.weights, FPS), 1e-9))
        yield row(
            "LVE, % of inter-pupil distance (baseline: the mean face)",
            float(np.mean(errors)),
            baseline=float(np.mean(baselines)),
            ceiling=0.0,
        )
        yield row("FDD, upper face, signed, % of inter-pupil distance", float(np.mean(dynamics)), ceiling=0.0)
        yield row("jerk against the rules' (1 = as smooth)", float(np.mean(ratios)), ceiling=1.0)


def _middles(utterance: Utterance, frames: int) -> Iterator[tuple[int, int]]:
    """The frames of the middle half of every phone that is not silence, at least one for each."""
    for phone in utterance.phones:
        quarter = (phone.end - phone.start) / 4
        first = round((phone.start + quarter) * FPS)
        stop = max(first + 1, round((phone.end - quarter) * FPS))
        if phone.phone != "sil" and stop <= frames:
            yield first, stop


def _regions(head: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the lips, and of brows, lids and upper cheeks: where the shapes of each move most."""
    size = np.linalg.norm(head.mesh.deltas, axis=-1)
    lips = size[
        [ARKIT_INDEX["mouthPucker"], ARKIT_INDEX["mouthRollLower"], ARKIT_INDEX["mouthRollUpper"]]
    ].max(axis=0)
    brows = [
        index
        for name, index in ARKIT_INDEX.items()
        if name.startswith(("brow", "eyeWide", "eyeSquint", "cheekSquint"))
    ]
    upper = size[brows].max(axis=0)
    return np.flatnonzero(lips > 0.5 * lips.max()), np.flatnonzero(upper > 0.25 * upper.max())


_MEMORY_PROGRAM = """
import sys
from pathlib import Path
from affetto.generators.face.pipeline import FaceAnimator
frames = sum(len(piece) for _, piece in FaceAnimator.from_pretrained("embedded", device="cpu").stream(sys.argv[1], "happy"))
# Not getrusage: its peak includes that of the process which started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(frames, peak.split()[1])
"""
