"""`EmoRegConverter`: emotional voice conversion in EmoReg's published shape, with weights of the user's own.

Gudmalwar et al., "EmoReg" (AAAI 2025, arXiv 2412.20359): DiffVC told an emotion embedding e_ir = e_s + i e_d at every
step of the reverse diffusion; HiFi-GAN makes the sound.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from affetto.conditioning.directions import DirectionalLatents
from affetto.conditioning.track import EmotionTrack, as_track
from affetto.generators.voice.bank import CRYING, NAMES, VoiceBank, emotion_weights
from affetto.generators.voice.controls import ControlResidual, analyse
from affetto.generators.voice.full.diffvc import Reference
from affetto.generators.voice.full.embedding import EMBEDDED, RATE, EmotionEmbedding, open_embedding
from affetto.generators.voice.full.emoreg_weights import WEIGHTS_ID, EmoRegWeights
from affetto.generators.voice.full.hifigan import HiFiGAN, HiFiGANConfig, load_hifigan
from affetto.generators.voice.full.mel import HIFIGAN_MEL, subtract_noise, vocoder_mel
from affetto.generators.voice.pipeline import (
    Feeling,
    Speech,
    VoiceConversion,
    VoiceOptions,
    VoicePlan,
    check_speech,
)
from affetto.generators.voice.speaker import speaker_statistics
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio, load_audio
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.weights.store import check_safetensors, weight_path
from affetto.weights.tensors import load_tensors, read_checkpoint

VOCODER_ID = "hifigan-universal"
_PIECE = 1024  # frames converted at once, about 12 s
_MARGIN = 16  # frames by which neighbouring pieces overlap to either side of their cut
_VOCODER_MARGIN = 24  # frames; more than the generator looks to either side
_REFERENCE = 512  # frames of the source that tell the network how the speaker sounds
_QUIETEST, _LOUDEST = float(np.log(1e-5)), 4.0  # log-mel values outside are no speech
_UNKNOWN = 0.5  # share of the asked emotion that the weights must know


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Frames `low`..`high` are converted together, of which `start`..`stop` count fully."""

    low: int
    start: int
    stop: int
    high: int


def cut_pieces(
    mel: Float[np.ndarray, "band frame"], longest: int = _PIECE, margin: int = _MARGIN
) -> list[Piece]:
    """Overlapping pieces of at most `longest` frames, cut where the sound is quietest."""
    frames = mel.shape[1]
    energy = uniform_filter1d(np.exp(mel.astype(np.float64)).sum(axis=0), 9, mode="nearest")
    room = longest - 2 * margin
    cuts = [0]
    while frames - cuts[-1] > room:
        first = cuts[-1] + room // 2
        cuts.append(first + int(np.argmin(energy[first : cuts[-1] + room])))
    cuts.append(frames)
    return [
        Piece(low=max(0, start - margin), start=start, stop=stop, high=min(frames, stop + margin))
        for start, stop in pairwise(cuts)
    ]


class EmoRegConverter:
    """Says a recording again with another emotion; called like `VoiceConverter`.

    Timing never changes (EmoReg has no duration model). Speed on a CPU: about 1.8 s of work for each second of sound and
    step at the published size, so 30 steps take 54 times as long as the sound; use a GPU.
    """

    def __init__(
        self,
        weights: EmoRegWeights,
        vocoder: HiFiGAN,
        embedding: EmotionEmbedding,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.weights = weights
        self._network = weights.network.to(device)
        self._vocoder = vocoder.to(device)
        self._embedding = embedding
        self.device, self.dtype = device, dtype

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = WEIGHTS_ID,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        vocoder: str | Path = VOCODER_ID,
        embedding: str | Path | None = None,
    ) -> "EmoRegConverter":
        """The weights that `affetto train voice-emoreg` wrote: from the store (`emoreg`) or from a file.

        `vocoder` is the registered HiFi-GAN or a file of it, `embedding` the folder of the speech network when the
        weights were trained with one that has moved. Raises MissingResourceError for what is not there.
        """
        path = weight_path(WEIGHTS_ID) if str(name) == WEIGHTS_ID else _existing(name)
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        weights = EmoRegWeights.load(path)
        reader = open_embedding(
            str(embedding or weights.embedding), weights.head, device=where, dtype=precision
        )
        return cls(weights, open_hifigan(vocoder), reader, device=where, dtype=precision)

    def __call__(
        self,
        audio: Speech,
        emotion: Feeling = None,
        *,
        strength: float = 1.0,
        level: float = 0.0,
        keep_timing: bool = True,
        seed: int = 0,
        steps: int = 30,
        solver: str = "ml",
        reference: Speech | None = None,
        bank: VoiceBank | str | Path | None = None,
        denoise: bool = True,
        batch: int | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> VoiceConversion:
        """`audio` said with `emotion`, or with the emotion of a `reference` recording, i = `strength` of the way.

        With a reference, `emotion` may be left out; given, its intensity alone counts, so that a track can fade it.
        `bank` takes the directions of a voice bank (weights trained on our own embeddings only). Strength 0 returns the
        samples of the source. Timing stays whatever `keep_timing` says. The same seed gives the same samples.
        """
        options = VoiceOptions(
            strength=strength, level=level, keep_timing=keep_timing, seed=seed, steps=max(steps, 1)
        )
        speech = audio if isinstance(audio, Audio) else load_audio(audio)
        check_speech(speech)
        track = as_track(emotion)
        plan = _plan(speech, track, options)
        samples = speech.resampled(HIFIGAN_MEL.rate).mono()
        samples = np.pad(samples, (0, -len(samples) % HIFIGAN_MEL.hop))
        mel = vocoder_mel(torch.from_numpy(samples)).numpy()
        weights = self._asked(track, mel.shape[1], strength, hold=reference is not None and emotion is None)
        if not weights.any():
            return _conversion(speech, speech, plan)
        places = self._places(speech, weights, reference, bank)
        made = self._mels(mel, places, options, solver, batch, callback_on_step_end, cancel)
        if denoise:
            made = subtract_noise(made, mel)
        sound = self._sound(made)
        return _conversion(_as_source(sound, speech, level), speech, plan)

    def _asked(
        self, track: EmotionTrack, frames: int, strength: float, *, hold: bool
    ) -> Float[np.ndarray, "frame name"]:
        """How strongly each of the bank's emotions is asked for in each frame."""
        if hold:
            return np.full((frames, len(NAMES)), strength / len(NAMES))
        times = np.arange(frames) / HIFIGAN_MEL.fps
        batch = track.for_modality("voice").sample(times)
        return strength * np.asarray(emotion_weights(batch), np.float64)

    def _places(
        self,
        speech: Audio,
        weights: Float[np.ndarray, "frame name"],
        reference: Speech | None,
        bank: VoiceBank | str | Path | None,
    ) -> Float[Tensor, "frame 256"]:
        """e_ir = e_s + i e_d in each frame."""
        own = self._embedding([speech.resampled(RATE).mono()])[0]
        if reference is not None:
            heard = reference if isinstance(reference, Audio) else load_audio(reference)
            check_speech(heard)
            other = self._embedding([heard.resampled(RATE).mono()])[0]
            rows = self.weights.reference_direction(own, other)[None].expand(len(NAMES), -1)
        else:
            rows = self._rows(own, weights, self._directions(bank))
        return own + torch.from_numpy(weights).float() @ rows

    def _directions(self, bank: VoiceBank | str | Path | None) -> DirectionalLatents:
        if bank is None:
            return self.weights.directions
        if self.weights.embedding != EMBEDDED:
            raise UsageError("a voice bank speaks of our own embeddings: these weights use another network")
        return (bank if isinstance(bank, VoiceBank) else VoiceBank.from_pretrained(str(bank))).directions

    def _rows(
        self,
        place: Float[Tensor, "256"],
        weights: Float[np.ndarray, "frame name"],
        directions: DirectionalLatents,
    ) -> Float[Tensor, "name 256"]:
        """The direction of each of the bank's emotions; zero for those that nobody asked for."""
        rows, unknown = torch.zeros(len(NAMES), len(place)), 0.0
        total = weights.sum(axis=0)
        for row, name in enumerate(NAMES):
            known = "sad" if name == CRYING and CRYING not in directions.names else name
            if total[row] > 0 and known in directions.names:
                rows[row] = self.weights.direction(known, place, directions=directions)
            else:
                unknown += float(total[row])
        if unknown > _UNKNOWN * float(total.sum()):
            raise UsageError(
                f"these EmoReg weights know {', '.join(directions.names)}: ask for one of them, or give a reference"
            )
        return rows

    @torch.inference_mode()
    def _mels(
        self,
        mel: Float[np.ndarray, "band frame"],
        places: Float[Tensor, "frame 256"],
        options: VoiceOptions,
        solver: str,
        batch: int | None,
        callback: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Float32[np.ndarray, "band frame"]:
        """The converted log-mels: pieces in batches, neighbours faded into each other."""
        pieces = cut_pieces(mel)
        size = batch or (8 if self.device.type == "cuda" else 1)
        heard = self._reference(mel)
        total, weight = np.zeros_like(mel), np.zeros(mel.shape[1], np.float32)
        done, steps = 0, options.steps * (-(-len(pieces) // size))

        def on_step(_: int) -> None:
            nonlocal done
            done += 1
            if cancel is not None:
                cancel.check()
            if callback is not None:
                callback(ProgressEvent(stage="diffusion", done=done, total=steps))

        for first in range(0, len(pieces), size):
            group = pieces[first : first + size]
            made = self._convert(mel, places, group, heard, options, solver, on_step)
            for piece, part in zip(group, made, strict=True):
                fade = _fade(piece)
                total[:, piece.low : piece.high] += fade * part[:, : piece.high - piece.low]
                weight[piece.low : piece.high] += fade
        if not np.isfinite(total).all():
            raise InvalidInputError(
                "these EmoReg weights give no finite spectrum: train them longer, or use solver pf"
            )
        return np.clip(total / np.maximum(weight, 1e-6), _QUIETEST, _LOUDEST)

    def _convert(
        self,
        mel: Float[np.ndarray, "band frame"],
        places: Float[Tensor, "frame 256"],
        group: Sequence[Piece],
        heard: Reference,
        options: VoiceOptions,
        solver: str,
        on_step: object,
    ) -> Float32[np.ndarray, "piece band longest"]:
        lengths = torch.tensor([piece.high - piece.low for piece in group])
        width = int(lengths.max())
        clips = torch.zeros(len(group), mel.shape[0], width)
        course = torch.zeros(len(group), width, places.shape[1])
        for row, piece in enumerate(group):
            clips[row, :, : piece.high - piece.low] = torch.from_numpy(mel[:, piece.low : piece.high])
            course[row, : piece.high - piece.low] = places[piece.low : piece.high]
        many = Reference(
            mel=heard.mel.expand(len(group), -1, -1),
            mean=heard.mean.expand(len(group), -1, -1),
            lengths=heard.lengths.expand(len(group)),
        )
        with autocast(self.device, self.dtype):
            made = self._network.convert(
                clips.to(self.device),
                lengths.to(self.device),
                course.to(self.device),
                reference=many,
                steps=options.steps,
                solver=solver,
                seeds=[_piece_seed(options.seed, piece.low) for piece in group],
                on_step=on_step,  # pyright: ignore[reportArgumentType]
            )
        return made.float().cpu().numpy()

    def _reference(self, mel: Float[np.ndarray, "band frame"]) -> Reference:
        """The loudest stretch of the source, as what tells the network how the speaker sounds."""
        energy = np.exp(mel.astype(np.float64)).sum(axis=0)
        sums = np.concatenate([[0.0], np.cumsum(energy)])
        length = min(_REFERENCE, mel.shape[1])
        start = int(np.argmax(sums[length:] - sums[:-length]))
        part = torch.from_numpy(mel[:, start : start + length])[None].to(self.device)
        lengths = torch.tensor([length], device=self.device)
        with autocast(self.device, self.dtype):
            mean = self._network.encoder(part, lengths).float()
        return Reference(mel=part, mean=mean, lengths=lengths)

    @torch.inference_mode()
    def _sound(self, mel: Float[np.ndarray, "band frame"]) -> Float32[np.ndarray, "sample"]:
        """The vocoder's sound, piece by piece with margins, so that memory stays flat."""
        hop, parts = HIFIGAN_MEL.hop, []
        for start in range(0, mel.shape[1], _PIECE):
            stop = min(start + _PIECE, mel.shape[1])
            low, high = max(0, start - _VOCODER_MARGIN), min(mel.shape[1], stop + _VOCODER_MARGIN)
            part = torch.from_numpy(mel[None, :, low:high]).to(self.device)
            with autocast(self.device, self.dtype):
                sound = self._vocoder(part)[0].float().cpu().numpy()
            parts.append(sound[(start - low) * hop : (stop - low) * hop])
        return np.concatenate(parts)


def open_hifigan(name: str | Path) -> HiFiGAN:
    """The registered vocoder, or a file: converted .safetensors, or the published `generator` at V1 size."""
    if str(name) == VOCODER_ID:
        tensors, metadata = load_tensors(VOCODER_ID)
        return load_hifigan(tensors, HiFiGANConfig.from_json(metadata.get("config", "")))
    path = _existing(name)
    config = HiFiGANConfig()
    if path.suffix == ".safetensors":
        from affetto.weights.store import read_arrays

        check_safetensors(path)
        config = HiFiGANConfig.from_json(read_arrays(path)[1].get("config", config.to_json()))
    return load_hifigan(read_checkpoint(path), config)


def _existing(name: str | Path) -> Path:
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"no weights at {name}: name a file, or leave it away for those in the store")
    return path


def _fade(piece: Piece) -> Float32[np.ndarray, "frame"]:
    """1 within a piece, falling linearly to 0 over the overlap at either cut."""
    fade = np.ones(piece.high - piece.low, np.float32)
    for margin, end in (
        (piece.start - piece.low, slice(None)),
        (piece.high - piece.stop, slice(None, None, -1)),
    ):
        if margin:
            ramp = (np.arange(2 * margin, dtype=np.float32) + 0.5) / (2 * margin)
            fade[end][: 2 * margin] = np.minimum(fade[end][: 2 * margin], ramp[: len(fade)])
    return fade


def _piece_seed(seed: int, start: int) -> int:
    return int(np.random.SeedSequence([seed, start]).generate_state(1)[0])


def _plan(speech: Audio, track: EmotionTrack, options: VoiceOptions) -> VoicePlan:
    """What the conversion's record needs: the source's controls, and no residual on them."""
    controls = analyse(speech.mono(), speech.rate)
    return VoicePlan(
        audio=speech, controls=controls, speaker=speaker_statistics(controls), track=track,
        residual=ControlResidual.zeros(len(controls)), options=options,
    )  # fmt: skip


def _conversion(audio: Audio, source: Audio, plan: VoicePlan) -> VoiceConversion:
    return VoiceConversion(audio=audio, source=source, time_map=TimeMap.identity(source.seconds), plan=plan)


def _as_source(sound: Float32[np.ndarray, "sample"], source: Audio, level: float) -> Audio:
    """Mono sound at the vocoder's rate in the shape of the source; `level` 0 gives it the loudness of the source."""
    made = Audio(samples=sound[None], rate=HIFIGAN_MEL.rate).resampled(source.rate).samples[0]
    frames = source.samples.shape[1]
    made = np.pad(made, (0, max(0, frames - len(made))))[:frames]
    loud, wanted = (
        float(np.sqrt(np.mean(np.square(each, dtype=np.float64)))) for each in (made, source.mono())
    )
    if loud > 0.0 and wanted > 0.0:
        made = made * np.float32((wanted / loud) ** (1.0 - min(level, 1.0)))
    peak = float(np.abs(made).max(initial=0.0))
    made = made * np.float32(min(1.0, 0.999 / peak if peak > 0 else 1.0))
    samples = np.repeat(made[None].astype(np.float32), len(source.samples), axis=0)
    return dataclasses.replace(source, samples=samples, path=None)
