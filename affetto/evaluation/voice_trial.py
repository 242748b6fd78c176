"""Conversions of held-out speech by several ways, heard once and kept for every measure that needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from affetto.evaluation.voice_critic import Reference, VoiceCritic, core_probability
from affetto.evaluation.voice_features import Heard, listen, loudness_db
from affetto.evaluation.voice_metrics import (
    Cues,
    SpeakerReader,
    content,
    content_distance,
    cues,
    nearest_content,
    timbre,
)
from affetto.evaluation.voice_sets import CORE, EMOTIONS, Take, read_takes
from affetto.generators.voice.bank import VoiceBank
from affetto.generators.voice.controls import ControlResidual, VoiceControls, analyse
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.generators.voice.render import render
from affetto.media.audio import Audio

TARGETS = ("angry", "happy", "sad", "fear", "disgusted", "bored")
"""What is asked for: every emotion that the critic knows, but neutral."""

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

Moves = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One conversion (or recording) as the judges hear it."""

    take: Take  # what it was made from
    emotion: str  # what was asked for
    strength: float
    heard: Heard
    probabilities: Float[np.ndarray, "7"]
    loudness_db: float

    @property
    def level_db(self) -> float:
        """RMS level of the speaking parts."""
        return self.heard.level_db

    @property
    def wanted(self) -> float:
        """The probability of what was asked for: among the CORE emotions, when it is one of them."""
        if self.emotion in CORE:
            return core_probability(self.probabilities, self.emotion)
        return float(self.probabilities[EMOTIONS.index(self.emotion)])


class _StillBank(VoiceBank):
    """A bank without directions: the emotion embedding stays where the source is."""

    def direction(
        self,
        weights: Float[np.ndarray, "name"],
        place: Float[np.ndarray, "256"],
    ) -> Float32[np.ndarray, "256"]:
        """No movement."""
        return np.zeros(256, np.float32)


class Trial:
    """Held-out neutral takes of EMO-DB's test speakers, and ways to give them an emotion.

    The ways: `affetto`; `plain`, one shift of mean pitch, pitch range and rate for each emotion, as natural speech of
    the training speakers has it; `bank`, the linear bank without the network; `still`, affetto without directions.
    """

    def __init__(self, converter: VoiceConverter, data: Path, *, seed: int = 0) -> None:
        self.converter = converter
        self.critic = VoiceCritic.from_pretrained()
        self.seed = seed
        self.takes = read_takes(data)
        self.bank = VoiceBank.from_pretrained("embedded")
        self._still = _StillBank(**{each.name: getattr(self.bank, each.name) for each in fields(VoiceBank)})
        self._heard: dict[str, Heard] = {}
        self._controls: dict[str, VoiceControls] = {}
        self._references_of: dict[str, Reference] = {}
        self._sweeps: dict[tuple, list[Sample]] = {}

    @cached_property
    def sources(self) -> list[Take]:
        """The neutral takes of the test speakers."""
        return [take for take in self.takes if take.split == "test" and take.emotion == "neutral"]

    def hear(self, take: Take) -> Heard:
        """A recorded take as the judges hear it."""
        if take.name not in self._heard:
            self._heard[take.name] = listen(take.audio)
        return self._heard[take.name]

    def _reference(self, take: Take) -> Reference:
        """How the speaker of a take sounds when neutral."""
        if take.speaker not in self._references_of:
            neutral = [
                each for each in self.takes if (each.speaker, each.emotion) == (take.speaker, "neutral")
            ]
            self._references_of[take.speaker] = Reference.of([self.hear(each) for each in neutral])
        return self._references_of[take.speaker]

    def know(self, takes: Sequence[Take]) -> None:
        """Take the neutral speech of a further speaker as the reference for their conversions."""
        self._references_of[takes[0].speaker] = Reference.of([self.hear(take) for take in takes])

    def sweep(
        self, way: str, *, emotions: Sequence[str] = TARGETS, strengths: Sequence[float] = STRENGTHS
    ) -> list[Sample]:
        """Every source with every emotion at every strength; made once."""
        key = (way, tuple(emotions), tuple(strengths))
        if key not in self._sweeps:
            self._sweeps[key] = self.convert_all(way, self.sources, emotions, strengths)
        return self._sweeps[key]

    def convert_all(
        self, way: str, takes: Sequence[Take], emotions: Sequence[str], strengths: Sequence[float]
    ) -> list[Sample]:
        """Each take with each emotion at each strength, heard and judged."""
        samples = []
        for take in takes:
            source = self._sample(take, "neutral", 0.0, take.audio, self.hear(take))
            for emotion in emotions:
                for strength in strengths:
                    if strength == 0.0:
                        same = {each.name: getattr(source, each.name) for each in fields(Sample)}
                        samples.append(Sample(**{**same, "emotion": emotion}))
                        continue
                    audio = self.convert(way, take, emotion, strength)
                    samples.append(self._sample(take, emotion, strength, audio, listen(audio)))
        return samples

    def _sample(self, take: Take, emotion: str, strength: float, audio: Audio, heard: Heard) -> Sample:
        return Sample(
            take=take,
            emotion=emotion,
            strength=strength,
            heard=heard,
            probabilities=self.critic.probabilities(heard, self._reference(take), speaker=take.speaker),
            loudness_db=loudness_db(audio),
        )

    def convert(self, way: str, take: Take, emotion: str, strength: float) -> Audio:
        """The take with an emotion by one of the ways."""
        if way in ("affetto", "still"):
            bank = self._still if way == "still" else None
            done = self.converter(take.audio, emotion, strength=strength, seed=self.seed, bank=bank)
            return done.audio
        controls = self.controls(take)
        if way == "bank":
            weights = np.zeros((len(controls), len(self.bank.names)))
            weights[:, self.bank.names.index(emotion)] = strength
            residual = self.bank.linear_residual(controls, weights)
        else:
            residual = self.plain(controls, emotion, strength)
        return render(take.audio, controls, residual).audio

    def controls(self, take: Take) -> VoiceControls:
        """The controls of a take, analysed once."""
        if take.name not in self._controls:
            self._controls[take.name] = analyse(take.audio.mono(), take.audio.rate)
        return self._controls[take.name]

    def plain(self, controls: VoiceControls, emotion: str, strength: float) -> ControlResidual:
        """Mean pitch, pitch range and rate moved as natural speech moves them, the same in every frame."""
        moves = self.table[emotion]
        melody = 12.0 / np.log(2.0) * controls.log_f0.astype(np.float64)
        voiced = controls.voiced > 0.5
        own = melody[voiced] if voiced.any() else melody
        stretch = np.clip(moves["spread"] / max(float(own.std()), 0.5), -0.6, 1.0)
        stack = np.zeros((len(controls), 30))
        stack[:, 0] = strength * (moves["pitch"] + stretch * np.clip(melody - own.mean(), -8.0, 8.0))
        stack[:, 29] = strength * moves["rate"]
        return ControlResidual.from_stack(stack.astype(np.float32))

    def natural(self) -> list[Sample]:
        """The test speakers' own takes of every emotion, as samples of full strength."""
        key = ("natural",)
        if key not in self._sweeps:
            chosen = [take for take in self.takes if take.split == "test" and take.emotion in TARGETS]
            self._sweeps[key] = [
                self._sample(take, take.emotion, 1.0, take.audio, self.hear(take)) for take in chosen
            ]
        return self._sweeps[key]

    @cached_property
    def table(self) -> Mapping[str, Moves]:
        """How natural speech of the other speakers moves from neutral to each emotion (rate only of whole takes)."""
        others = [take for take in self.takes if take.split != "test"]
        found: dict[str, Moves] = {}
        for emotion in TARGETS:
            rows = []
            for take in others:
                same = [
                    other
                    for other in others
                    if other.emotion == "neutral"
                    and (other.speaker, other.sentence) == (take.speaker, take.sentence)
                ]
                if take.emotion == emotion and same:
                    after = cues(self.hear(take))
                    rows.append(_mean([_move(cues(self.hear(other)), after) for other in same], rate=True))
            found[emotion] = _mean(rows, rate=emotion in CORE)
        return found

    def moves(self, samples: Sequence[Sample], emotion: str) -> Moves:
        """How conversions at full strength move from their sources."""
        chosen = [each for each in samples if each.emotion == emotion and each.strength == 1.0]
        return _mean([_move(cues(self.hear(each.take)), cues(each.heard)) for each in chosen], rate=True)

    def spreads(self, samples: Sequence[Sample], field: str) -> list[float]:
        """Highest less lowest level over the strengths of each utterance and emotion, in dB."""
        courses: dict[tuple[str, str], list[float]] = {}
        for each in samples:
            courses.setdefault((each.take.name, each.emotion), []).append(getattr(each, field))
        return [max(course) - min(course) for course in courses.values()]

    def retrieved(self, samples: Sequence[Sample], *, own: bool) -> float:
        """The share whose sentence is nearest among ten neutral ones.

        With `own` a speaker's own takes come first and the very source stands for its sentence; else all ten are spoken
        by others of the same sex.
        """
        hits = []
        for each in samples:
            sentences, references = self._references(each.take, own=own)
            found = nearest_content(content(each.heard), references)
            hits.append(sentences[found] == each.take.sentence)
        return float(np.mean(hits))

    def _references(self, take: Take, *, own: bool) -> tuple[list[str], list[Float[np.ndarray, "frame 13"]]]:
        best: dict[str, Take] = {}
        for other in self.takes:
            if other.emotion != "neutral" or (other.speaker == take.speaker and not own):
                continue
            rank = (other.name == take.name, other.speaker == take.speaker, other.sex == take.sex)
            held = best.get(other.sentence)
            if held is None or rank > (
                held.name == take.name,
                held.speaker == take.speaker,
                held.sex == take.sex,
            ):
                best[other.sentence] = other
        names = sorted(best)
        return names, [content(self.hear(best[name])) for name in names]

    def distance(self, samples: Sequence[Sample]) -> float:
        """Mean distance of the words of conversions from those of their sources."""
        return float(
            np.mean(
                [content_distance(content(each.heard), content(self.hear(each.take))) for each in samples]
            )
        )

    def natural_distance(self) -> float:
        """The same between a test speaker's neutral and emotional takes of a sentence."""
        found = [
            content_distance(content(each.heard), content(self.hear(source)))
            for each in self.natural()
            for source in self.sources
            if (source.speaker, source.sentence) == (each.take.speaker, each.take.sentence)
        ]
        return float(np.mean(found))

    @cached_property
    def _readers(self) -> Mapping[str, SpeakerReader]:
        """For each sentence, a reader of the ten speakers that has not heard it."""
        takes = [take for take in self.takes if take.emotion in CORE]
        features = np.stack([timbre(self.hear(take)) for take in takes])
        readers = {}
        for sentence in sorted({take.sentence for take in takes}):
            rows = [index for index, take in enumerate(takes) if take.sentence != sentence]
            readers[sentence] = SpeakerReader.fit(features[rows], [takes[row].speaker for row in rows])
        return readers

    def identified(self, samples: Sequence[Sample]) -> float:
        """The share whose speaker is named among EMO-DB's ten."""
        chosen = [each for each in samples if each.emotion in CORE]
        return float(
            np.mean(
                [
                    self._readers[each.take.sentence].name(timbre(each.heard)) == each.take.speaker
                    for each in chosen
                ]
            )
        )


def _move(before: Cues, after: Cues) -> Moves:
    return {
        "pitch": after.pitch - before.pitch,
        "spread": after.pitch_spread - before.pitch_spread,
        "rate": float(np.log(after.seconds / before.seconds)),
        "tilt": after.tilt_db - before.tilt_db,
    }


def _mean(rows: Sequence[Moves], *, rate: bool) -> Moves:
    found = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    return found if rate else {**found, "rate": 0.0}
