"""A critic of face curves: which emotion they show, and which visemes their lips make.

It learns from rule-made performances of its own training speakers and is used by no training of any animator. What it
says is how well curves follow the conventions of the rules, not what a person would see.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.acting.pieces import join
from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.face.performance import FaceOptions, RuleSpeaker, perform
from affetto.head.model import HeadModel
from affetto.media.animation.curves import ARKIT_52, FaceCurves
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError
from affetto.speech.content import SpeechContent
from affetto.speech.corpus import Utterance, read_emodb
from affetto.speech.phones import VISEME_INDEX, VISEMES, phone_frames
from affetto.weights.store import load_tensors, save_tensors

CRITIC_FPS = 50.0
_CONTEXT = (-9, -6, -3, 0, 3, 6, 9)  # frames at 50 Hz that the viseme reader sees
_STATISTICS = 4


class FaceCritic(nn.Module):
    """Two small readers over ARKIT_52 curves: the emotion of a clip, the viseme of each frame."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        clip, frame = _STATISTICS * len(ARKIT_52), 2 * len(_CONTEXT) * len(ARKIT_52)
        self.emotion = nn.Sequential(nn.Linear(clip, width), nn.ReLU(), nn.Linear(width, len(ANCHORS_8)))
        self.viseme = nn.Sequential(
            nn.Linear(frame, 3 * width), nn.ReLU(), nn.Linear(3 * width, len(VISEMES))
        )
        self.clip_mean = nn.Buffer(torch.zeros(clip))
        self.clip_scale = nn.Buffer(torch.ones(clip))

    @classmethod
    def from_pretrained(cls) -> "FaceCritic":
        """The embedded critic."""
        tensors, _ = load_tensors("face-critic")
        critic = cls()
        critic.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=True)
        return critic.eval()

    @torch.no_grad()
    def emotions(self, curves: FaceCurves) -> Float[np.ndarray, "8"]:
        """Probabilities over ANCHORS_8 of what the whole clip shows."""
        features = torch.from_numpy(clip_statistics(curves))[None]
        return F.softmax(self.emotion((features - self.clip_mean) / self.clip_scale), dim=-1)[0].numpy()

    @torch.no_grad()
    def visemes(self, curves: FaceCurves) -> Int[np.ndarray, "frame"]:
        """The index into VISEMES that the lips make at each frame, at 50 Hz."""
        return self.viseme(torch.from_numpy(frame_context(curves))).argmax(dim=-1).numpy()


def clip_statistics(curves: FaceCurves) -> Float[np.ndarray, "feature"]:
    """Mean, spread, and 10th and 90th percentile of each blend shape over the clip."""
    weights = curves.weights
    parts = [weights.mean(axis=0), weights.std(axis=0), *np.quantile(weights, [0.1, 0.9], axis=0)]
    return np.concatenate(parts).astype(np.float32)


def frame_context(curves: FaceCurves) -> Float[np.ndarray, "frame feature"]:
    """The blend shapes at seven moments around each frame, 60 ms apart: as they are, and less their mean over the clip.

    What an emotion adds all along falls out of the latter.
    """
    weights = curves.resampled(CRITIC_FPS).weights
    both = np.concatenate([weights, weights - weights.mean(axis=0)], axis=1)
    reach = max(_CONTEXT)
    padded = np.pad(both, ((reach, reach), (0, 0)), mode="edge")
    shifted = [padded[reach + step : reach + step + len(both)] for step in _CONTEXT]
    return np.concatenate(shifted, axis=1).astype(np.float32)


def rule_performance(utterance: Utterance, emotion: Emotion | EmotionTrack, *, seed: int) -> FaceCurves:
    """The performance of known phones by rule, at 50 Hz: what the critic learns from, and the animators' ceiling."""
    track = EmotionTrack.constant(emotion) if isinstance(emotion, Emotion) else emotion
    content = SpeechContent.from_phones(utterance.phones, utterance.seconds)
    options = FaceOptions(fps=CRITIC_FPS, seed=seed, articulation=1.0)
    pieces = perform([content], RuleSpeaker(utterance.phones, content), HeadModel.load(), track, options)
    return join(pieces, CRITIC_FPS)


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    clips: Float[Tensor, "clip feature"]
    emotions: Int[Tensor, "clip"]
    frames: Float[Tensor, "frame feature"]
    visemes: Int[Tensor, "frame"]


def train_face_critic(
    data: Path,
    output: Path,
    *,
    seconds: float = 600.0,
    seed: int = 100,
    resume: bool = False,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Train on EMO-DB's training speakers, write `output`, and return accuracies on its validation speakers.

    Half the time budget goes into performances, half into fitting. It starts afresh each time: `resume` has no
    meaning for so short a run and is refused.
    """
    if resume:
        raise InvalidInputError("the face critic trains within minutes: run it without --resume")
    rng = np.random.default_rng(seed)
    spoken = list(read_emodb(data / "speech" / "emodb"))
    deadline = time.monotonic() + seconds
    held_out = [utterance for utterance in spoken if utterance.split == "validation"]
    check = _lesson(rng.permutation(np.array(held_out, object))[:16].tolist(), rng, deadline)
    students = [utterance for utterance in spoken if utterance.split == "train"]
    lesson = _lesson(
        rng.permutation(np.array(students, object)).tolist(), rng, time.monotonic() + seconds / 2
    )
    torch_rng = torch.Generator().manual_seed(seed)
    critic = FaceCritic()
    for parameter in critic.parameters():
        if parameter.ndim == 2:
            bound = (6.0 / sum(parameter.shape)) ** 0.5
            parameter.data.uniform_(-bound, bound, generator=torch_rng)
        else:
            parameter.data.zero_()
    critic.clip_mean.copy_(lesson.clips.mean(dim=0))
    critic.clip_scale.copy_(lesson.clips.std(dim=0) + 0.05)
    where = resolve_device(device)
    critic.to(where)
    _fit(critic, lesson, deadline, torch_rng, where)
    scores = _accuracy(critic.cpu().eval(), check)
    save_tensors(
        output,
        critic.state_dict(),
        {"seed": str(seed), **{name: f"{score:.4f}" for name, score in scores.items()}},
    )
    return scores


def _lesson(utterances: Sequence[Utterance], rng: np.random.Generator, deadline: float) -> _Lesson:
    """Performances of each utterance with each anchor at chance strength, until the deadline."""
    clips, emotions, frames, visemes = [], [], [], []
    for index, utterance in enumerate(utterances):
        if index >= 8 and time.monotonic() > deadline:
            break
        said = phone_frames(
            utterance.phones, len(SpeechContent.from_phones(utterance.phones, utterance.seconds)), CRITIC_FPS
        )
        labels = np.array(VISEME_INDEX)[said.astype(int)]
        for anchor, name in enumerate(ANCHORS_8):
            strength = float(rng.uniform(0.5, 1.3))
            curves = rule_performance(
                utterance, Emotion.from_label(name, strength), seed=int(rng.integers(1 << 30))
            )
            clips.append(clip_statistics(curves))
            emotions.append(anchor)
            frames.append(frame_context(curves)[::3])
            visemes.append(labels[: len(curves) : 3])
    return _Lesson(
        clips=torch.from_numpy(np.stack(clips)),
        emotions=torch.tensor(emotions),
        frames=torch.from_numpy(np.concatenate(frames)),
        visemes=torch.from_numpy(np.concatenate(visemes)),
    )


def _fit(
    critic: FaceCritic, lesson: _Lesson, deadline: float, rng: torch.Generator, device: torch.device
) -> None:
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=0.02)
    clips = ((lesson.clips - lesson.clips.mean(dim=0)) / (lesson.clips.std(dim=0) + 0.05)).to(device)
    emotions, frames, visemes = (
        lesson.emotions.to(device),
        lesson.frames.to(device),
        lesson.visemes.to(device),
    )
    for _ in range(6000):
        clip = torch.randint(len(clips), (128,), generator=rng).to(device)
        frame = torch.randint(len(frames), (512,), generator=rng).to(device)
        loss = F.cross_entropy(critic.emotion(clips[clip]), emotions[clip])
        loss = loss + F.cross_entropy(critic.viseme(frames[frame]), visemes[frame])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if time.monotonic() > deadline:
            break


@torch.no_grad()
def _accuracy(critic: FaceCritic, check: _Lesson) -> dict[str, float]:
    clips = (check.clips - critic.clip_mean) / critic.clip_scale
    return {
        "emotion_accuracy": float((critic.emotion(clips).argmax(dim=-1) == check.emotions).float().mean()),
        "viseme_accuracy": float(
            (critic.viseme(check.frames).argmax(dim=-1) == check.visemes).float().mean()
        ),
        "emotion_majority": 1.0 / len(ANCHORS_8),
        "viseme_majority": float(torch.bincount(check.visemes).max() / len(check.visemes)),
    }
