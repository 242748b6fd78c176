"""What the voice tells apart from its words: level-free log-mels, pitch and their statistics."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from affetto.media.mel import MelSpec, log_mel

_DECIBELS = 10.0 / math.log(10.0)  # in a neper of power


@dataclass(frozen=True, kw_only=True)
class SpeechSpec:
    """The front end of the speech encoder."""

    mel: MelSpec = field(default_factory=lambda: MelSpec(bands=48, floor=1e-10))
    window_seconds: float = 2.0
    range_db: float = 40.0  # below the active level everything is floor: the noise of a room says nothing
    low_pitch_hz: float = 65.0
    high_pitch_hz: float = 550.0
    cepstra: int = 13

    @property
    def samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.mel.rate)

    @property
    def channels(self) -> int:
        """Rows that `frame_features` gives: the bands, then pitch, voicing and energy."""
        return self.mel.bands + 3


def active_frames(
    energy_db: Float[Tensor, "clip frame"], *, range_db: float = 35.0
) -> Bool[Tensor, "clip frame"]:
    """Frames between the first and the last one within `range_db` of the loudest: the utterance without its margins."""
    loud = (energy_db > energy_db.amax(-1, keepdim=True) - range_db) & (energy_db > -80.0)
    begun = loud.long().cumsum(-1) > 0
    ongoing = loud.flip(-1).long().cumsum(-1).flip(-1) > 0
    return begun & ongoing


@lru_cache(maxsize=8)
def _lag_window(window: int, fft: int) -> Tensor:
    taper = torch.hann_window(window, dtype=torch.float64)
    correlation = torch.fft.irfft(torch.fft.rfft(taper, fft).abs().square(), fft)
    return (correlation / correlation[0]).clamp_min(1e-3).float()


def pitch(
    waveform: Float[Tensor, "clip sample"], spec: SpeechSpec
) -> tuple[Float[Tensor, "clip frame"], Float[Tensor, "clip frame"]]:
    """Pitch in octaves above 100 Hz and voicing strength 0..1 of each frame, by normalised autocorrelation.

    The autocorrelation of the tapered frame is divided by that of its taper (Boersma 1993), with a small cost per
    octave against sub-harmonics. The pitch of a frame without voice is meaningless: weigh it by the strength.
    """
    rate, hop = spec.mel.rate, spec.mel.hop
    window, fft = 3 * round(rate / spec.low_pitch_hz), 2048
    frames = -(-waveform.shape[-1] // hop)
    padded = F.pad(waveform, (window // 2, window // 2 + hop))
    cut = padded.unfold(-1, window, hop)[:, :frames]
    cut = (cut - cut.mean(-1, keepdim=True)) * torch.hann_window(window, device=waveform.device)
    spectrum = torch.fft.rfft(cut, fft).abs().square()
    correlation = torch.fft.irfft(spectrum, fft)
    power = correlation[..., :1].clamp_min(1e-12)
    normalised = correlation / power / _lag_window(window, fft).to(waveform.device)
    shortest, longest = round(rate / spec.high_pitch_hz), round(rate / spec.low_pitch_hz)
    lags = torch.arange(shortest, longest + 1, device=waveform.device)
    cost = 0.03 * torch.log2(lags / shortest)
    best = (normalised[..., shortest : longest + 1] - cost).argmax(-1) + shortest
    around = torch.stack([best - 1, best, best + 1], dim=-1)
    left, middle, right = normalised.gather(-1, around).unbind(-1)
    shift = (0.5 * (left - right) / (left - 2 * middle + right).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    octaves = torch.log2(rate / (best + shift) / 100.0)
    strength = torch.where(correlation[..., 0] > 1e-7, middle.clamp(0.0, 1.0), 0.0)
    return _median5(octaves), _median5(strength)


def _median5(curve: Float[Tensor, "clip frame"]) -> Float[Tensor, "clip frame"]:
    return F.pad(curve, (2, 2), mode="replicate").unfold(-1, 5, 1).median(-1).values


def frame_features(
    waveform: Float[Tensor, "clip sample"], spec: SpeechSpec
) -> tuple[Float[Tensor, "clip channel frame"], Bool[Tensor, "clip frame"]]:
    """Log-mel bands, pitch, voicing and energy of each frame, unchanged by gain, and which frames are active.

    Bands and energy are in nepers relative to the mean over active frames, floored `range_db` below it. Everything is
    computed in float32. A silent clip has no active frame and features of zero.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        samples = waveform.float()
        samples = samples - samples.mean(-1, keepdim=True)
        peak = samples.abs().amax(-1, keepdim=True)
        samples = torch.where(peak > 1e-4, samples / peak.clamp_min(1e-4), torch.zeros_like(samples))
        mels = log_mel(samples, spec.mel)
        total = torch.logsumexp(mels, dim=1)
        active = active_frames(total * _DECIBELS)
        weight = active.float()
        count = weight.sum(-1, keepdim=True).clamp_min(1.0)
        # the level is the power mean: pauses hardly change it
        level = torch.log((total.exp() * weight).sum(-1, keepdim=True) / count + 1e-10)
        depth = spec.range_db / _DECIBELS
        energy = (total - level).clamp_min(-depth)
        bands = (mels - level[:, None]).clamp_min(-depth)
        octaves, strength = pitch(samples, spec)
        rows = torch.cat([bands, octaves[:, None], strength[:, None], energy[:, None]], dim=1)
        return torch.where(active[:, None], rows, torch.zeros_like(rows)), active


def _masked_statistics(
    curves: Float[Tensor, "clip curve frame"], weight: Float[Tensor, "clip frame"]
) -> Float[Tensor, "clip statistic"]:
    """Mean, deviation and the 10th, 50th and 90th percentiles of each curve where `weight` is 1."""
    mask = weight[:, None] > 0.5
    count = mask.sum(-1).clamp_min(1)
    mean = torch.where(mask, curves, 0.0).sum(-1) / count
    spread = (
        torch.where(mask, (curves - mean[..., None]).square(), 0.0).sum(-1).div(count).clamp_min(1e-12).sqrt()
    )
    marks = torch.tensor([0.1, 0.5, 0.9], device=curves.device)
    quantiles = torch.nanquantile(torch.where(mask, curves, torch.nan), marks, dim=-1).nan_to_num(0.0)
    return rearrange(torch.cat([mean[None], spread[None], quantiles]), "s clip curve -> clip (s curve)")


@lru_cache(maxsize=8)
def _cosines(bands: int, cepstra: int) -> Tensor:
    band = torch.arange(bands, dtype=torch.float32) + 0.5
    order = torch.arange(1, cepstra + 1, dtype=torch.float32)
    return torch.cos(torch.pi / bands * order[:, None] * band) * (2.0 / bands) ** 0.5


def functionals(
    features: Float[Tensor, "clip channel frame"], active: Bool[Tensor, "clip frame"], spec: SpeechSpec
) -> Float[Tensor, "clip statistic"]:
    """Utterance statistics after the manner of eGeMAPS: pitch, voicing, energy, tilt, cepstra, their movement, tempo.

    Independent of gain, of how long the clip lasts and of silence around it.
    """
    bands, octaves = features[:, : spec.mel.bands], features[:, spec.mel.bands]
    strength, energy = features[:, spec.mel.bands + 1], features[:, spec.mel.bands + 2]
    speaking = active.float()
    voiced = speaking * (strength > 0.55)
    shape = bands - energy[:, None]  # each band against the frame's own energy
    cepstra = torch.einsum("kb,cbt->ckt", _cosines(spec.mel.bands, spec.cepstra).to(bands.device), bands)
    quarter = spec.mel.bands // 4
    tilt = torch.stack([shape[:, i * quarter : (i + 1) * quarter].mean(1) for i in range(4)], dim=1)
    prosody = torch.stack([energy, strength], dim=1)
    joined = torch.cat([prosody, cepstra, tilt], dim=1)
    parts = [
        _masked_statistics(joined, speaking),
        _masked_statistics(torch.cat([octaves[:, None], cepstra, tilt], dim=1), voiced),
        _movement(torch.cat([energy[:, None], cepstra, tilt], dim=1), speaking),
        _movement(octaves[:, None], voiced),
        _tempo(energy, voiced, speaking, spec.mel.fps),
    ]
    return torch.cat(parts, dim=-1)


def _movement(
    curves: Float[Tensor, "clip curve frame"], weight: Float[Tensor, "clip frame"]
) -> Float[Tensor, "clip statistic"]:
    """Mean and deviation of the size of each curve's change over 50 ms, where both ends count."""
    step = 5
    both = (weight[:, step:] * weight[:, :-step])[:, None]
    change = (curves[..., step:] - curves[..., :-step]).abs()
    count = both.sum(-1).clamp_min(1.0)
    mean = (change * both).sum(-1) / count
    spread = ((change - mean[..., None]).square() * both).sum(-1).div(count).clamp_min(1e-12).sqrt()
    return torch.cat([mean, spread], dim=-1)


def _tempo(
    energy: Float[Tensor, "clip frame"],
    voiced: Float[Tensor, "clip frame"],
    speaking: Float[Tensor, "clip frame"],
    fps: float,
) -> Float[Tensor, "clip statistic"]:
    """Voiced share, voiced stretches a second, energy peaks a second, share of pauses."""
    seconds = speaking.sum(-1).clamp_min(1.0) / fps
    onsets = ((voiced[:, 1:] > 0.5) & (voiced[:, :-1] < 0.5)).float().sum(-1)
    smooth = F.avg_pool1d(energy[:, None], 9, 1, 4, count_include_pad=False)[:, 0]
    middle = smooth[:, 5:-5]
    peaks = (middle >= smooth[:, :-10]) & (middle >= smooth[:, 10:]) & (middle > -3.0)
    rising = (middle > smooth[:, 4:-6]) & (middle >= smooth[:, 6:-4])
    rate = (peaks & rising).float().sum(-1)
    pauses = ((energy < -4.0).float() * speaking).sum(-1) / speaking.sum(-1).clamp_min(1.0)
    share = voiced.sum(-1) / speaking.sum(-1).clamp_min(1.0)
    return torch.stack([share, onsets / seconds, rate / seconds, pauses], dim=-1)
