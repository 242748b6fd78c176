"""A critic of voices: which emotion a voice expresses, by two judges with ears of their own.

One judge is a small convolutional network over level-free log-mels, the other a logistic regression on statistics of
pitch, energy and spectrum. No converter is trained or tuned with them. Neither has heard EMO-DB's test speakers, and
each of the four panels leaves out two more, so that the natural speech of every speaker can be judged honestly.

Both know how the speaker sounds when neutral, as a listener does who has heard them before: that takes the microphone and
the voice out of what is judged, and makes corpora and languages comparable.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from affetto.evaluation.voice_features import SPEC, WINDOW, Heard, listen, statistics, windows
from affetto.evaluation.voice_sets import CORE, EMOTIONS, VALIDATION_SPEAKERS, Take, read_takes
from affetto.runtime.device import resolve_device
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import load_tensors, save_tensors

PANELS: tuple[tuple[str, str], ...] = (VALIDATION_SPEAKERS, ("08", "10"), ("09", "11"), ("13", "15"))
"""The speakers each panel has not heard, besides the test speakers."""

STATISTICS = 160
FLOOR = -6.0  # natural log of power against the band's own mean: below, all is silence
_STEPS = 600
_RATE = 3e-3
_BATCH = 32
_CORE_INDEX = [EMOTIONS.index(name) for name in CORE]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How a speaker sounds when neutral."""

    colour: Float32[np.ndarray, "48"]  # mean log-mel while speaking
    statistics: Float32[np.ndarray, "80"]

    @classmethod
    def of(cls, clips: Sequence[Heard]) -> "Reference":
        """The mean of a speaker's neutral clips."""
        frames = np.concatenate([clip.mels[clip.energy > -2.5 * np.log(10.0)] for clip in clips])
        rows = [np.mean([statistics(window) for window in windows(clip)], axis=0) for clip in clips]
        return cls(colour=frames.mean(axis=0), statistics=np.mean(rows, axis=0).astype(np.float32))

    def mels(self, heard: Heard) -> Float32[np.ndarray, "frame 48"]:
        """Log-mels against those of the neutral voice."""
        return np.maximum(heard.mels - self.colour, FLOOR).astype(np.float32)

    def told(self, heard: Heard) -> Float32[np.ndarray, "160"]:
        """The statistics of a window, and by how much they differ from neutral."""
        own = statistics(heard)
        return np.concatenate([own, own - self.statistics])


class VoiceNetwork(nn.Module):
    """Class logits of log-mel windows: four strided convolutions, then mean and spread over time."""

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for index, width in enumerate(widths):
            kernel, stride, padding = ((3, 5), (2, 2), (1, 2)) if index == 0 else (3, 2, 1)
            layers += [nn.Conv2d(before, width, kernel, stride, padding), nn.BatchNorm2d(width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * before * (SPEC.bands >> len(widths)), len(EMOTIONS))

    def forward(self, mels: Float[Tensor, "clip frame 48"]) -> Float[Tensor, "clip 7"]:
        """Logits over EMOTIONS."""
        hidden = self.layers((mels / 3.0).transpose(1, 2)[:, None]).flatten(1, 2)
        pooled = torch.cat([hidden.mean(dim=-1), hidden.std(dim=-1, unbiased=False)], dim=1)
        return self.head(self.dropout(pooled))


class StatisticsReader(nn.Module):
    """Class logits of a window's statistics: multinomial logistic regression."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(STATISTICS))
        self.scale = nn.Buffer(torch.ones(STATISTICS))
        self.linear = nn.Linear(STATISTICS, len(EMOTIONS))

    def forward(self, values: Float[Tensor, "clip feature"]) -> Float[Tensor, "clip 7"]:
        """Logits over EMOTIONS."""
        return self.linear(((values - self.mean) / self.scale).clamp(-4.0, 4.0))


class VoiceCritic(nn.Module):
    """Four panels of two judges each; every panel has heard six of EMO-DB's ten speakers."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList([VoiceNetwork() for _ in PANELS])
        self.readers = nn.ModuleList([StatisticsReader() for _ in PANELS])

    @classmethod
    def from_pretrained(cls) -> "VoiceCritic":
        """The embedded critic."""
        tensors, _ = load_tensors("voice-critic")
        critic = cls()
        critic.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return critic.eval()

    @torch.no_grad()
    def judges(self, heard: Heard, reference: Reference, *, speaker: str = "") -> Float[np.ndarray, "2 7"]:
        """Probabilities over EMOTIONS by the network and by the statistics, from panels that have not heard `speaker`."""
        cut = windows(heard)
        mels = torch.from_numpy(np.stack([_filled(reference.mels(window)) for window in cut]))
        values = torch.from_numpy(np.stack([reference.told(window) for window in cut]))
        left_out = [index for index, pair in enumerate(PANELS) if speaker in pair]
        panels = left_out or list(range(len(PANELS)))
        answers = []
        for judges, given in ((self.networks, mels), (self.readers, values)):
            logs = torch.stack([F.log_softmax(judges[index](given), dim=-1) for index in panels])
            answers.append(logs.mean(dim=(0, 1)).softmax(dim=-1))
        return torch.stack(answers).double().numpy()

    def probabilities(
        self, heard: Heard, reference: Reference, *, speaker: str = ""
    ) -> Float[np.ndarray, "7"]:
        """Probabilities over EMOTIONS: what both judges say, averaged."""
        return self.judges(heard, reference, speaker=speaker).mean(axis=0)


def _filled(mels: Float32[np.ndarray, "frame 48"]) -> Float32[np.ndarray, "160 48"]:
    """A window with silence around it, where it is shorter than two seconds."""
    missing = WINDOW - len(mels)
    return np.pad(mels, ((missing // 2, missing - missing // 2), (0, 0)), constant_values=FLOOR)


def core_choice(probabilities: Float[np.ndarray, "7"]) -> str:
    """The likeliest of the four CORE emotions."""
    return CORE[int(probabilities[_CORE_INDEX].argmax())]


def core_probability(probabilities: Float[np.ndarray, "7"], emotion: str) -> float:
    """The probability of one CORE emotion when it must be one of the four."""
    return float(probabilities[EMOTIONS.index(emotion)] / probabilities[_CORE_INDEX].sum())


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    clips: list[tuple[Heard, Reference]]
    labels: Int[np.ndarray, "clip"]

    @property
    def lengths(self) -> Int[Tensor, "clip"]:
        """Frames of each clip."""
        return torch.tensor([len(clip) for clip, _ in self.clips])


def train_voice_critic(
    data: Path,
    output: Path,
    *,
    seconds: float = 600.0,
    seed: int = 300,
    device: str | torch.device = "cpu",
    progress: ProgressCallback | None = None,
) -> dict[str, float]:
    """Train on EMO-DB, write `output`, and return accuracies on speakers unheard by the judging panel.

    The work is fixed (about four minutes on one core); `seconds` only stops a run on a slower machine early.
    """
    deadline = time.monotonic() + seconds
    takes = read_takes(data)
    heard = {take.name: listen(take.audio) for take in takes}
    references = neutral_references(takes, heard)
    critic = VoiceCritic()
    rng = torch.Generator().manual_seed(seed)
    where = resolve_device(device)
    for index, pair in enumerate(PANELS):
        students = [take for take in takes if take.split != "test" and take.speaker not in pair]
        lesson = _Lesson(
            clips=[(heard[take.name], references[take.speaker]) for take in students],
            labels=np.array([EMOTIONS.index(take.emotion) for take in students]),
        )
        _fit_reader(critic.readers[index], lesson)
        share = (deadline - time.monotonic()) / (len(PANELS) - index)
        network = critic.networks[index]
        _initialise(network, rng)
        _fit_network(network.to(where), lesson, rng, time.monotonic() + share)
        network.cpu()
        if progress is not None:
            progress(ProgressEvent(stage="voice critic", done=index + 1, total=len(PANELS)))
    scores = accuracies(critic.eval(), takes, heard, references)
    metadata = {"seed": str(seed), "classes": json.dumps(EMOTIONS), "panels": json.dumps(PANELS)}
    save_tensors(
        output,
        {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in critic.state_dict().items()
        },
        {**metadata, **{name: f"{score:.4f}" for name, score in scores.items()}},
    )
    return scores


def accuracies(
    critic: VoiceCritic,
    takes: Sequence[Take],
    heard: Mapping[str, Heard],
    references: Mapping[str, Reference],
) -> dict[str, float]:
    """Of natural speech by speakers the judging panel has not heard: how often the played emotion is named.

    `test_` and `others_` tell the speakers, `core` is among the four CORE emotions and `seven` among all, `recall_` is
    a class among the seven.
    """
    scores: dict[str, float] = {}
    for group, splits in (("test", ("test",)), ("others", ("train", "validation"))):
        chosen = [take for take in takes if take.split in splits]
        answers = np.stack(
            [
                critic.judges(heard[take.name], references[take.speaker], speaker=take.speaker)
                for take in chosen
            ]
        )
        labels = np.array([EMOTIONS.index(take.emotion) for take in chosen])
        views = {"": answers.mean(axis=1), "_network": answers[:, 0], "_statistics": answers[:, 1]}
        core = np.isin(labels, _CORE_INDEX)
        for name, view in views.items():
            scores[f"{group}_seven{name}"] = float((view.argmax(axis=1) == labels).mean())
            named = np.array(_CORE_INDEX)[view[:, _CORE_INDEX].argmax(axis=1)]
            scores[f"{group}_core{name}"] = float((named == labels)[core].mean())
        for index, emotion in enumerate(EMOTIONS):
            scores[f"{group}_recall_{emotion}"] = float(
                (views[""].argmax(axis=1) == index)[labels == index].mean()
            )
    return scores


def neutral_references(takes: Sequence[Take], heard: Mapping[str, Heard]) -> dict[str, Reference]:
    """How each speaker sounds when neutral."""
    speakers = sorted({take.speaker for take in takes})
    return {
        speaker: Reference.of(
            [heard[take.name] for take in takes if take.speaker == speaker and take.emotion == "neutral"]
        )
        for speaker in speakers
    }


def _fit_reader(reader: nn.Module, lesson: _Lesson, *, decay: float = 3e-3) -> None:
    """Logistic regression to convergence; every clip counts once and every class alike."""
    assert isinstance(reader, StatisticsReader)
    rows, labels, weights = [], [], []
    counts = np.bincount(lesson.labels, minlength=len(EMOTIONS))
    for (clip, reference), label in zip(lesson.clips, lesson.labels, strict=True):
        cut = windows(clip)
        rows += [reference.told(window) for window in cut]
        labels += [label] * len(cut)
        weights += [1.0 / (len(cut) * counts[label] * len(EMOTIONS))] * len(cut)
    values, wanted = torch.from_numpy(np.stack(rows)), torch.tensor(labels)
    share = torch.tensor(weights, dtype=torch.float32)
    reader.mean.copy_(values.mean(dim=0))
    reader.scale.copy_(values.std(dim=0) + 1e-3)
    nn.init.zeros_(reader.linear.weight)
    nn.init.zeros_(reader.linear.bias)
    optimizer = torch.optim.LBFGS(reader.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (F.cross_entropy(reader(values), wanted, reduction="none") * share).sum()
        loss = loss + decay * reader.linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def _initialise(network: nn.Module, rng: torch.Generator) -> None:
    for parameter in network.parameters():
        if parameter.ndim > 1:
            fan = parameter[0].numel()
            parameter.data.normal_(0.0, (2.0 / fan) ** 0.5, generator=rng)
        elif parameter is not None and parameter.ndim == 1:
            parameter.data.fill_(0.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1.0)


def _fit_network(network: nn.Module, lesson: _Lesson, rng: torch.Generator, deadline: float) -> None:
    """Fit for a fixed number of steps; when the deadline comes nearer than that, the learning rate falls faster."""
    device = next(network.parameters()).device
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.02)
    chance = torch.from_numpy(1.0 / np.bincount(lesson.labels, minlength=len(EMOTIONS)))[lesson.labels]
    clips, lengths, labels = _padded(lesson.clips), lesson.lengths, torch.from_numpy(lesson.labels)
    began, step, done = time.monotonic(), 0, 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(1 << 30, (1,), generator=rng)))  # dropout takes no generator
        while done < 1.0:
            optimizer.param_groups[0]["lr"] = _RATE * min(1.0, 10.0 * done + 0.05) * (1.0 - done)
            picks = torch.multinomial(chance, _BATCH, replacement=True, generator=rng)
            mels = augmented(clips[picks], lengths[picks], rng)
            loss = F.cross_entropy(network(mels.to(device)), labels[picks].to(device), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            done = max(step / _STEPS, (time.monotonic() - began) / max(deadline - began, 1e-3))
    network.eval()


def _padded(clips: Sequence[tuple[Heard, Reference]]) -> Float[Tensor, "clip frame 48"]:
    longest = max(len(clip) for clip, _ in clips)
    rows = torch.full((len(clips), longest, SPEC.bands), FLOOR)
    for row, (clip, reference) in zip(rows, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(reference.mels(clip))
    return rows


def augmented(
    mels: Float[Tensor, "clip frame 48"], lengths: Int[Tensor, "clip"], rng: torch.Generator
) -> Float[Tensor, "clip 160 48"]:
    """Two-second windows of clips as other voices in other rooms might have spoken them.

    A window starts anywhere, runs up to 8 % faster or slower, its bands shift by up to one and a half, a smooth filter
    of about 1 dB and a noise floor colour it, and a stripe of time and one of bands are blanked.
    """

    def uniform(low: float, high: float, *more: int) -> Tensor:
        return low + (high - low) * torch.rand(len(mels), *more, generator=rng)

    speed = uniform(0.92, 1.08)
    room = (lengths - WINDOW * speed).clamp_min(0.0)
    spare = (WINDOW - lengths / speed).clamp_min(0.0)  # silence around a clip shorter than the window
    start = uniform(0.0, 1.0) * room - uniform(0.0, 1.0) * spare * speed
    frames = start[:, None] + speed[:, None] * torch.arange(WINDOW)
    outside = (frames < 0) | (frames > lengths[:, None] - 1)
    bands = torch.arange(SPEC.bands) + uniform(-1.5, 1.5, 1)
    where = torch.stack(
        [
            (2.0 * bands / (SPEC.bands - 1) - 1.0)[:, None].expand(-1, WINDOW, -1),
            (2.0 * frames / (mels.shape[1] - 1) - 1.0)[:, :, None].expand(-1, -1, SPEC.bands),
        ],
        dim=-1,
    )
    moved = F.grid_sample(mels[:, None], where, padding_mode="border", align_corners=True)[:, 0]
    waves = torch.cos(torch.arange(1, 4)[:, None] * torch.linspace(0.0, np.pi, SPEC.bands))
    moved = moved + (uniform(-0.25, 0.25, 3) @ waves)[:, None]
    moved = torch.logaddexp(moved, uniform(1.5 * FLOOR, 0.6 * FLOOR)[:, None, None]).clamp_min(FLOOR)
    moved = moved.masked_fill(outside[:, :, None], FLOOR)
    moved = moved.masked_fill(_stripe(WINDOW, 16, uniform)[:, :, None], FLOOR)
    return moved.masked_fill(_stripe(SPEC.bands, 6, uniform)[:, None], 0.0)


def _stripe(size: int, widest: int, uniform: Callable[[float, float], Tensor]) -> Bool[Tensor, "clip {size}"]:
    first, width = uniform(0.0, float(size)), uniform(0.0, float(widest))
    places = torch.arange(size)
    return (places >= first[:, None]) & (places < (first + width)[:, None])
