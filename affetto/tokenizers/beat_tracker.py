"""Where the beats and bars of a played performance lie: a small network over onsets, and the best steady path.

The network (dilated convolutions after Davies & Böck 2019) tells at 50 Hz how likely a beat and a down-beat is; a
semi-Markov search over beat lengths, after the bar-pointer model (Whiteley et al. 2006; Krebs et al. 2015), finds the beats,
and a second one counts them into bars.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from affetto.media.midi import Score
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import InvalidInputError
from affetto.tokenizers.beat_grid import BeatGrid
from affetto.weights.store import read_arrays, weight_path

FRAMES = 50  # a second
CHANNELS = 9
_LOW, _HIGH = 50, 68  # pitches that part bass, middle and melody
_HARMONY_S = 0.7  # before and after a moment, compared


@dataclass(frozen=True, kw_only=True)
class BeatNetworkConfig:
    """Sizes of the network; the defaults are those of the shipped weights."""

    width: int = 32
    blocks: int = 9
    kernel: int = 5
    dropout: float = 0.1


class BeatNetwork(nn.Module):
    """Logits of a beat and of a down-beat at each frame."""

    def __init__(self, config: BeatNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Conv1d(CHANNELS, width, config.kernel, padding=config.kernel // 2)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.blocks)])
        self.dilated = nn.ModuleList(
            [
                nn.Conv1d(
                    width, width, config.kernel, dilation=2**level, padding=2**level * (config.kernel // 2)
                )
                for level in range(config.blocks)
            ]
        )
        self.mixed = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(config.blocks)])
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Conv1d(width, 2, 1)

    def forward(self, features: Float[Tensor, "clip channel frame"]) -> Float[Tensor, "clip 2 frame"]:
        """Logits (beat, down-beat) from `onset_features`."""
        hidden = self.stem(features)
        for norm, dilated, mixed in zip(self.norms, self.dilated, self.mixed, strict=True):
            normed = rearrange(norm(rearrange(hidden, "b c t -> b t c")), "b t c -> b c t")
            hidden = hidden + mixed(self.dropout(nn.functional.elu(dilated(normed))))
        return self.head(nn.functional.elu(hidden))


def onset_features(
    notes: Float64[np.ndarray, "note 4"], frames: int | None = None
) -> Float32[np.ndarray, "channel frame"]:
    """What begins and sounds at each frame, from notes (start s, duration s, pitch, velocity).

    Channels: onsets, their loudness, low, middle and high ones, how long they last, how low they are, how many notes sound,
    and how much the harmony changes. An onset between two frames is shared by them.
    """
    start, duration, pitch, velocity = notes.T
    if frames is None:
        frames = int((start + duration).max(initial=0.0) * FRAMES) + FRAMES
    features = np.zeros((CHANNELS, frames), np.float32)
    if len(notes) == 0:
        return features
    at = np.clip(start * FRAMES, 0, frames - 1.001)
    whole, part = at.astype(np.int64), at % 1.0
    loud = velocity / max(float(velocity.mean()), 1.0)
    weights = (
        np.ones(len(notes)), loud, pitch < _LOW, (pitch >= _LOW) & (pitch < _HIGH), pitch >= _HIGH,
        np.minimum(duration, 4.0), np.maximum(60.0 - pitch, 0.0) / 24.0,
    )  # fmt: skip
    for channel, weight in enumerate(weights):
        np.add.at(features[channel], whole, weight * (1.0 - part))
        np.add.at(features[channel], whole + 1, weight * part)
    features[:7] = np.log1p(features[:7])
    chroma = _sounding(notes, frames)
    features[7] = np.log1p(chroma.sum(axis=0))
    features[8] = _harmony_change(chroma)
    return features


def _sounding(notes: Float64[np.ndarray, "note 4"], frames: int) -> Float64[np.ndarray, "12 frame"]:
    """How many notes of each pitch class sound at each frame."""
    begin = np.clip(notes[:, 0] * FRAMES, 0, frames).astype(np.int64)
    end = np.clip((notes[:, 0] + notes[:, 1]) * FRAMES, 0, frames).astype(np.int64)
    classes = notes[:, 2].astype(np.int64) % 12
    edges = np.zeros((12, frames + 1))
    np.add.at(edges, (classes, begin), 1.0)
    np.add.at(edges, (classes, end), -1.0)
    return np.cumsum(edges, axis=1)[:, :-1]


def _harmony_change(chroma: Float64[np.ndarray, "12 frame"]) -> Float64[np.ndarray, "frame"]:
    """One less the cosine between what sounds shortly before and shortly after each frame."""
    reach = round(_HARMONY_S * FRAMES)
    total = np.pad(np.cumsum(chroma, axis=1), ((0, 0), (1, 0)))
    frames = np.arange(chroma.shape[1])
    before = total[:, frames] - total[:, np.maximum(frames - reach, 0)]
    after = total[:, np.minimum(frames + reach, chroma.shape[1])] - total[:, frames]
    size = np.linalg.norm(before, axis=0) * np.linalg.norm(after, axis=0)
    return np.where(size > 0, 1.0 - (before * after).sum(axis=0) / np.maximum(size, 1e-9), 0.0)


@dataclass(frozen=True, kw_only=True)
class BeatSearch:
    """What the search for the best path believes."""

    slowest: float = 40.0  # beats a minute
    fastest: float = 215.0
    steadiness: float = 60.0  # against a change of beat length, per octave
    bonus: float = 0.7  # for each beat, nats: the lower, the more a faint beat must be heard
    floor: float = 0.02  # no probability counts as less, or as more than one less this
    usual: float = 85.0  # beats a minute that need no evidence
    usualness: float = 0.4  # against other tempos, for each beat, per octave squared
    new_bar: float = 4.0  # against bars of another length than the one before
    cut_bar: float = 4.0  # against a bar that stops halfway


class BeatTracker:
    """Finds the beats and bars of a performance: `tracker(score) -> BeatGrid`."""

    def __init__(self, network: BeatNetwork, *, search: BeatSearch | None = None) -> None:
        self.network = network.eval()
        self.search = search or BeatSearch()

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "embedded", *, device: str | torch.device = "auto"
    ) -> "BeatTracker":
        """The shipped tracker (`embedded`), or the one in a file of `affetto train beat-tracker`."""
        path = weight_path("beat-tracker") if name == "embedded" else Path(name)
        arrays, metadata = read_arrays(path)
        if "config" not in metadata:
            raise InvalidInputError(f"{path}: no beat tracker: name a file of `affetto train beat-tracker`")
        network = BeatNetwork(BeatNetworkConfig(**json.loads(metadata["config"])))
        network.load_state_dict({name: torch.from_numpy(values).float() for name, values in arrays.items()})
        return cls(network.to(resolve_device(device)))

    def __call__(self, score: Score) -> BeatGrid:
        """The beats and bars of the notes of a performance; raises `InvalidInputError` for fewer than two onsets."""
        return self.track(score.timed_notes())

    def track(self, notes: Float64[np.ndarray, "note 4"]) -> BeatGrid:
        """The beats and bars of notes (start s, duration s, pitch, velocity)."""
        if len(notes) < 2 or np.ptp(notes[:, 0]) < 1.0:
            raise InvalidInputError("a performance of less than a second has no beats: give a longer one")
        beat, down = self.probabilities(notes)
        frames = best_beats(beat, self.search)
        if len(frames) < 2:
            raise InvalidInputError("no steady beat is to be heard: give a longer performance")
        times = snapped(frames / FRAMES, notes)
        downbeats = best_bars(beat[frames], down[frames], self.search)
        return extended(BeatGrid(times=times, downbeats=downbeats), notes)

    @torch.inference_mode()
    def probabilities(
        self, notes: Float64[np.ndarray, "note 4"]
    ) -> tuple[Float64[np.ndarray, "frame"], Float64[np.ndarray, "frame"]]:
        """The probability of a beat and of a down-beat at each frame, at 50 Hz."""
        features = torch.from_numpy(onset_features(notes)).to(next(self.network.parameters()).device)
        found = torch.sigmoid(self.network(features[None]).float())[0].cpu().numpy().astype(np.float64)
        return found[0], found[1]

    def save_metadata(self) -> dict[str, str]:
        """What a weight file says of the network."""
        return {"config": json.dumps(dataclasses.asdict(self.network.config))}


def best_beats(beat: Float64[np.ndarray, "frame"], search: BeatSearch) -> Int64[np.ndarray, "beat"]:
    """The frames of the most probable steady beats: a semi-Markov path whose segments are beat lengths.

    It begins and ends where going on would cost more than the beats there are worth.
    """
    sure = np.clip(beat, search.floor, 1 - search.floor)
    evidence = np.log(sure / (1 - sure)) + search.bonus
    lengths = np.arange(int(FRAMES * 60 / search.fastest), int(FRAMES * 60 / search.slowest) + 1)
    change = -search.steadiness * np.log2(lengths[:, None] / lengths[None]) ** 2  # to, from
    usual = -search.usualness * np.log2(lengths * search.usual / (60 * FRAMES)) ** 2
    longest, count, rows = int(lengths[-1]), len(beat), np.arange(len(lengths))
    # for the latest frames: the best path to a beat there, by the length of the segment that may follow
    onward = np.full((longest + 1, len(lengths)), -np.inf)
    came_from = np.zeros((count, len(lengths)), np.int16)
    begins = np.zeros((count, len(lengths)), bool)
    close = (-np.inf, 0, 0)  # score, frame, length of the last segment
    for now in range(count):
        before = now - lengths
        arrived = np.where(before >= 0, onward[before % (longest + 1), rows], -np.inf)
        begins[now] = arrived <= 0.0
        best = np.maximum(arrived, 0.0) + evidence[now] + usual
        reached = change + best[None]
        came_from[now] = reached.argmax(axis=1)
        onward[now % (longest + 1)] = reached.max(axis=1)
        close = max(close, (float(best.max()), now, int(best.argmax())))
    _, now, row = close
    frames = [now]
    while not begins[now, row]:
        now, row = now - int(lengths[row]), int(came_from[now - int(lengths[row]), row])
        frames.append(now)
    return np.array(frames[::-1], np.int64)


def best_bars(
    beat: Float64[np.ndarray, "beat"], down: Float64[np.ndarray, "beat"], search: BeatSearch
) -> Bool[np.ndarray, "beat"]:
    """Which beats begin bars of four or three: the most probable count, with few changes and few cut bars."""
    share = np.clip(down / np.maximum(beat, 1e-3), 0.02, 0.98)
    places = [(bar, place) for bar in (4, 3) for place in range(bar)]
    step = np.full((len(places), len(places)), -np.inf)  # from, to
    for row, (bar, place) in enumerate(places):
        for column, (other, following) in enumerate(places):
            if bar == other and following == place + 1:
                step[row, column] = 0.0
            elif following == 0:
                cost = search.cut_bar if place + 1 < bar else 0.0
                step[row, column] = -cost - (search.new_bar if other != bar else 0.0)
    first = np.array([place == 0 for _, place in places])
    weigh = np.where(first[None], np.log(share)[:, None], np.log1p(-share)[:, None])
    best, back = weigh[0].copy(), np.zeros((len(share), len(places)), np.int64)
    for now in range(1, len(share)):
        reached = best[:, None] + step
        back[now] = reached.argmax(axis=0)
        best = reached.max(axis=0) + weigh[now]
    state, path = int(best.argmax()), np.zeros(len(share), np.int64)
    for now in range(len(share) - 1, -1, -1):
        path[now] = state
        state = int(back[now, state])
    return first[path]


def extended(grid: BeatGrid, notes: Float64[np.ndarray, "note 4"]) -> BeatGrid:
    """The grid drawn on at the pace of its ends until it covers all onsets; bars go on as they were."""
    times, downbeats = grid.times, grid.downbeats
    bar = int(np.median(np.diff(np.flatnonzero(downbeats)))) if downbeats.sum() > 1 else 4
    lead, trail = (float(np.median(np.diff(part))) for part in (times[:5], times[-5:]))
    before = max(int(np.ceil((times[0] - notes[:, 0].min()) / lead - 0.1)), 0)
    after = max(int(np.ceil((notes[:, 0].max() - times[-1]) / trail - 0.1)), 0)
    first = int(np.argmax(downbeats))
    last = len(downbeats) - 1 - int(np.argmax(downbeats[::-1]))
    places = np.arange(-before, len(times) + after)
    wider = np.concatenate(
        [times[0] + lead * np.arange(-before, 0), times, times[-1] + trail * np.arange(1, after + 1)]
    )
    outside = (places < 0) | (places >= len(times))
    counted = (places - np.where(places < 0, first, last)) % bar == 0
    within = np.concatenate([np.zeros(before, bool), downbeats, np.zeros(after, bool)])
    return BeatGrid(times=wider, downbeats=np.where(outside, counted, within))


def snapped(
    times: Float64[np.ndarray, "beat"], notes: Float64[np.ndarray, "note 4"], *, reach: float = 0.05
) -> Float64[np.ndarray, "beat"]:
    """Beats moved to the mean of the onsets within `reach` seconds, the loudest weighing most; the rest stay."""
    start = np.sort(notes[:, 0])
    loud = notes[np.argsort(notes[:, 0], kind="stable"), 3] ** 2
    mass = np.concatenate([[0.0], np.cumsum(loud)])
    moment = np.concatenate([[0.0], np.cumsum(loud * start)])
    low, high = np.searchsorted(start, times - reach), np.searchsorted(start, times + reach)
    weight = mass[high] - mass[low]
    moved = np.where(weight > 0, (moment[high] - moment[low]) / np.maximum(weight, 1e-9), times)
    return np.maximum.accumulate(moved + np.arange(len(moved)) * 1e-9)
