"""Sound <-> the discrete tokens of published neural codecs: EnCodec, DAC and Mimi, through transformers.

EnCodec: Défossez et al. 2022 (arXiv 2210.13438); DAC: Kumar et al. 2023 (2306.06546); Mimi: Défossez et al. 2024
(2410.00037). Their weights are pulled by the user; nothing is downloaded here. The `encodec` package is not needed: the
file it downloads (`encodec_24khz-*.th`) and the `state_dict()` of its model are understood by key.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, Int
from torch import Tensor
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

from affetto.media.audio import Audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.registry import REGISTRY
from affetto.weights.store import check_safetensors, read_arrays, save_tensors, weight_path
from affetto.weights.tensors import check_layout

FORMAT = "affetto-codec-1"
TOKENS_FORMAT = "affetto-codec-tokens-1"

Converted = tuple[dict[str, Tensor], dict[str, str]]

_KINDS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "encodec": (EncodecConfig, EncodecModel),
    "dac": (DacConfig, DacModel),
    "mimi": (MimiConfig, MimiModel),
}

_ENCODEC_48KHZ = {
    "target_bandwidths": [3.0, 6.0, 12.0, 24.0], "sampling_rate": 48_000, "audio_channels": 2, "normalize": True,
    "chunk_length_s": 1.0, "overlap": 0.01, "norm_type": "time_group_norm", "use_causal_conv": False,
}  # fmt: skip

_RENAMES = (  # from the encodec package's names, or from files older than torch's parametrizations
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.(?:conv|convtr)\.(?:conv|convtr)\.", ".conv."),
    (r"\.(?:conv|convtr)\.norm\.", ".norm."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CodecTokens:
    """What a codec writes down: `codes` (chunk, codebook, frame) and, for codecs that level their input, `scales`.

    `samples` is how many there were in each channel at `rate`. Codebooks are ordered from coarse to fine: the first n
    alone are the same sound at a lower bit rate.
    """

    codes: Int[np.ndarray, "chunk codebook frame"]
    scales: Float32[np.ndarray, "chunk"] | None
    samples: int
    rate: int
    codec: str  # encodec, dac or mimi
    codebook_size: int
    padding: int = 0  # frames of the last chunk that hold nothing

    @property
    def seconds(self) -> float:
        """How long the sound lasts."""
        return self.samples / self.rate

    @property
    def kbps(self) -> float:
        """Bits for each second, in thousands, without any entropy coding."""
        frames = self.codes.shape[0] * self.codes.shape[2] - self.padding
        bits = frames * self.codes.shape[1] * np.log2(self.codebook_size)
        return float(bits / max(self.seconds, 1e-9) / 1000.0)

    def coarse(self, codebooks: int) -> "CodecTokens":
        """The first `codebooks` codebooks only."""
        if not 1 <= codebooks <= self.codes.shape[1]:
            raise UsageError(f"there are 1..{self.codes.shape[1]} codebooks, not {codebooks}")
        return CodecTokens(**{**self.__dict__, "codes": self.codes[:, :codebooks]})

    def save(self, path: str | Path) -> Path:
        """Write the tokens as safetensors; the same tokens always give the same bytes."""
        tensors = {"codes": self.codes.astype(np.int16 if self.codebook_size <= 2**15 else np.int32)}
        if self.scales is not None:
            tensors["scales"] = self.scales
        about = {key: getattr(self, key) for key in ("samples", "rate", "codec", "codebook_size", "padding")}
        return save_tensors(
            path, tensors, {"format": TOKENS_FORMAT, "about": json.dumps(about, sort_keys=True)}
        )

    @classmethod
    def load(cls, path: str | Path) -> "CodecTokens":
        """Read what `save` wrote; raises InvalidInputError for any other file."""
        arrays, metadata = read_arrays(path)
        if metadata.get("format") != TOKENS_FORMAT:
            raise InvalidInputError(f"{path}: holds no codec tokens: make some with NeuralCodec.to_codes")
        try:
            tokens = cls(
                codes=arrays["codes"].astype(np.int64),
                scales=arrays.get("scales"),
                **json.loads(metadata["about"]),
            )
            inside = (
                tokens.codes.ndim == 3
                and tokens.codes.min() >= 0
                and tokens.codes.max() < tokens.codebook_size
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{path}: the tokens are incomplete ({error}): make them again"
            ) from error
        if not inside:
            raise InvalidInputError(
                f"{path}: tokens lie outside 0..{tokens.codebook_size - 1}: make them again"
            )
        return tokens


class NeuralCodec:
    """A published codec with one call for each direction, whatever its kind."""

    def __init__(self, kind: str, model: Any, *, dtype: torch.dtype = torch.float32) -> None:
        if kind not in _KINDS:
            raise UsageError(f"unknown codec {kind!r}: use {', '.join(_KINDS)}")
        self.kind, self.model, self.dtype = kind, model.eval(), dtype
        self.device = next(model.parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "encodec-24khz",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "fp32",
    ) -> "NeuralCodec":
        """The codec of a registered id (encodec-24khz, encodec-48khz, dac-44khz, mimi), a converted file, or a folder.

        A folder is one in the transformers layout. Raises MissingResourceError for weights that are not here.
        """
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        if Path(name).is_dir():
            kind, model = _from_folder(Path(name))
        else:
            path = weight_path(str(name)) if str(name) in REGISTRY else Path(name)
            if not path.is_file():
                raise MissingResourceError(
                    f"no codec at {name}: run affetto weights pull encodec-24khz (or encodec-48khz, dac-44khz, mimi)"
                )
            kind, model = _from_file(path)
        return cls(kind, model.to(where), dtype=precision)

    @property
    def rate(self) -> int:
        """Samples per second that the codec speaks."""
        return int(self.model.config.sampling_rate)

    @property
    def channels(self) -> int:
        """Channels that the codec speaks."""
        return int(getattr(self.model.config, "audio_channels", 1))

    @property
    def codebook_size(self) -> int:
        """How many values a token takes."""
        return int(self.model.config.codebook_size)

    @property
    def codebooks(self) -> int:
        """How many codebooks there are at most."""
        config = self.model.config
        if self.kind == "encodec":
            return int(self.model.quantizer.get_num_quantizers_for_bandwidth(max(config.target_bandwidths)))
        return int(config.n_codebooks if self.kind == "dac" else config.num_quantizers)

    @torch.inference_mode()
    def to_codes(self, audio: Audio, *, codebooks: int | None = None) -> CodecTokens:
        """The tokens of a sound, resampled and mixed to what the codec speaks; all codebooks unless told otherwise.

        Memory grows with the sound; cut what lasts longer than a few minutes.
        """
        wave = self._waveform(audio)
        scales, padding = None, 0
        with autocast(self.device, self.dtype):
            if self.kind == "encodec":
                best = max(self.model.config.target_bandwidths)
                made = self.model.encode(wave, bandwidth=best)
                codes = rearrange(made.audio_codes, "chunk 1 book frame -> chunk book frame")
                padding = int(made.last_frame_pad_length or 0)
                if made.audio_scales[0] is not None:
                    scales = (
                        torch.cat([scale.reshape(1) for scale in made.audio_scales]).float().cpu().numpy()
                    )
            else:
                codes = self.model.encode(wave).audio_codes
        tokens = CodecTokens(
            codes=codes.long().cpu().numpy(), scales=scales, samples=wave.shape[-1], rate=self.rate, codec=self.kind,
            codebook_size=self.codebook_size, padding=padding,
        )  # fmt: skip
        return tokens if codebooks is None else tokens.coarse(codebooks)

    @torch.inference_mode()
    def from_codes(self, tokens: CodecTokens) -> Audio:
        """The sound of tokens, at the codec's rate, as long as what they were made from.

        Raises UsageError for tokens of another codec.
        """
        if (tokens.codec, tokens.codebook_size, tokens.rate) != (self.kind, self.codebook_size, self.rate):
            raise UsageError(
                f"tokens of {tokens.codec} at {tokens.rate} Hz, but this codec is {self.kind} at {self.rate} Hz"
            )
        codes = torch.from_numpy(tokens.codes.astype(np.int64)).to(self.device)
        with autocast(self.device, self.dtype):
            if self.kind == "encodec":
                scales = (
                    [None] * len(codes)
                    if tokens.scales is None
                    else [torch.tensor([[float(scale)]], device=self.device) for scale in tokens.scales]
                )
                wave = self.model.decode(
                    rearrange(codes, "chunk book frame -> chunk 1 book frame"), scales,
                    last_frame_pad_length=tokens.padding,
                ).audio_values[0]  # fmt: skip
            elif self.kind == "dac":
                wave = self.model.decode(audio_codes=codes).audio_values
            else:
                wave = self.model.decode(codes).audio_values[0]
        samples = wave.float().cpu().numpy().reshape(self.channels, -1)[:, : tokens.samples]
        missing = tokens.samples - samples.shape[1]
        samples = np.pad(samples, ((0, 0), (0, max(0, missing))))
        return Audio(samples=np.ascontiguousarray(samples, np.float32), rate=self.rate)

    @torch.inference_mode()
    def embed(self, audio: Audio) -> Float[np.ndarray, "frame width"]:
        """The encoder's continuous states before quantisation, for a codec that reads sound in one piece."""
        with autocast(self.device, self.dtype):
            states = self.model.encoder(self._waveform(audio))
        return states[0].float().cpu().numpy().T

    def _waveform(self, audio: Audio) -> Float[Tensor, "1 channel sample"]:
        samples = audio.resampled(self.rate).samples
        if self.channels == 1:
            samples = samples.mean(axis=0, keepdims=True)
        elif len(samples) != self.channels:
            samples = np.repeat(samples.mean(axis=0, keepdims=True), self.channels, axis=0)
        if samples.shape[1] < self.rate // 50:
            raise InvalidInputError(f"{audio.path or 'the sound'}: shorter than 0.02 s: give more")
        return torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None].to(self.device)


def convert_encodec_24khz(tensors: Mapping[str, Tensor]) -> Converted:
    """EnCodec at 24 kHz, from transformers' file or from the encodec package's `.th`."""
    return _converted("encodec", EncodecConfig(), tensors)


def convert_encodec_48khz(tensors: Mapping[str, Tensor]) -> Converted:
    """EnCodec at 48 kHz in stereo, from transformers' file or from the encodec package's `.th`."""
    return _converted("encodec", EncodecConfig(**_ENCODEC_48KHZ), tensors)


def convert_dac(tensors: Mapping[str, Tensor]) -> Converted:
    """DAC at 44.1 kHz, from transformers' file."""
    return _converted("dac", DacConfig(sampling_rate=44_100), tensors)


def convert_mimi(tensors: Mapping[str, Tensor]) -> Converted:
    """Mimi at 24 kHz, from transformers' file."""
    return _converted("mimi", MimiConfig(), tensors)


def official_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that transformers gives them, whichever of the two layouts they come in."""
    renamed = {}
    for key, value in tensors.items():
        for pattern, replacement in _RENAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def codec_file(kind: str, config: Any, tensors: Mapping[str, Tensor]) -> Converted:
    """Tensors and metadata of a file that `NeuralCodec.from_pretrained` reads."""
    settings = {key: value for key, value in config.to_diff_dict().items() if key != "transformers_version"}
    metadata = {"format": FORMAT, "kind": kind, "config": json.dumps(settings, sort_keys=True)}
    return {key: value.detach().contiguous() for key, value in tensors.items()}, metadata


def _converted(kind: str, config: Any, tensors: Mapping[str, Tensor]) -> Converted:
    own = official_names(tensors)
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in _KINDS[kind][1](config).state_dict().items()}
    check_layout({key: tuple(value.shape) for key, value in own.items()}, expected, kind)
    return codec_file(kind, config, own)


def _from_file(path: Path) -> tuple[str, Any]:
    check_safetensors(path)
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != FORMAT:
        raise InvalidInputError(f"{path}: is no converted codec: run affetto weights convert first")
    kind = metadata.get("kind", "")
    if kind not in _KINDS:
        raise InvalidInputError(f"{path}: holds an unknown codec {kind!r}: convert it again")
    make_config, make_model = _KINDS[kind]
    try:
        model = make_model(make_config(**json.loads(metadata["config"])))
        model.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in arrays.items()})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()[:160]
        raise InvalidInputError(f"{path}: does not fit a {kind} ({reason}): convert it again") from error
    return kind, model


def _from_folder(folder: Path) -> tuple[str, Any]:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        make: Callable[..., Any] = _KINDS[kind][1].from_pretrained
        return kind, make(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InvalidInputError(
            f"{folder}: holds no EnCodec, DAC or Mimi ({reason}): name a folder in the transformers layout"
        ) from error
