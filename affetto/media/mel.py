"""Log-mel spectrograms, the front end that every audio model here shares."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MelSpec:
    """How a waveform becomes log-mels; frame t is centred on sample t * hop."""

    rate: int = 16_000  # samples per second
    window: int = 400  # samples
    hop: int = 160  # samples
    fft: int = 512
    bands: int = 80
    low_hz: float = 40.0
    high_hz: float = 7_600.0
    floor: float = 1e-5  # power below which all is silence

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.rate / self.hop


@lru_cache(maxsize=8)
def mel_filters(spec: MelSpec) -> Float[Tensor, "band bin"]:
    """Triangular filters, equally spaced on the HTK mel scale, each of unit area."""

    def to_mel(hertz: Tensor) -> Tensor:
        return 2595.0 * torch.log10(1.0 + hertz / 700.0)

    ends = to_mel(torch.tensor([spec.low_hz, spec.high_hz], dtype=torch.float64))
    corners_mel = torch.linspace(float(ends[0]), float(ends[1]), spec.bands + 2, dtype=torch.float64)
    corners = 700.0 * (10.0 ** (corners_mel / 2595.0) - 1.0)
    bins = torch.linspace(0.0, spec.rate / 2, spec.fft // 2 + 1, dtype=torch.float64)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    return (filters * (2.0 / (corners[2:] - corners[:-2]))[:, None]).float()


def log_mel(waveform: Float[Tensor, "*clip sample"], spec: MelSpec) -> Float[Tensor, "*clip band frame"]:
    """Natural log of mel-band power; ceil(samples / hop) frames, so that frame t speaks of time t * hop / rate."""
    with torch.autocast(waveform.device.type, enabled=False):
        samples = waveform.float()
        frames = -(-samples.shape[-1] // spec.hop)
        pad = spec.fft // 2
        samples = torch.nn.functional.pad(samples, (pad, pad + spec.hop))
        window = torch.hann_window(spec.window, device=samples.device)
        flat = samples.reshape(-1, samples.shape[-1])
        spectrum = torch.stft(
            flat, spec.fft, spec.hop, spec.window, window, center=False, return_complex=True
        )
        power = spectrum[..., :frames].abs().square() / window.sum().square()
        mels = torch.log(mel_filters(spec).to(power.device) @ power + spec.floor)
    return mels.reshape(*waveform.shape[:-1], spec.bands, frames)
