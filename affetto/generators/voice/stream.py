"""A recording of any length converted piece by piece, in constant memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from affetto.conditioning.encoders.voice_embedding import VoiceEmbedder
from affetto.generators.voice.controls import CONTROL_FPS, ControlResidual, analyse
from affetto.generators.voice.guide import Guide, felt_already
from affetto.generators.voice.loudness import settled
from affetto.generators.voice.pieces import (
    LONGEST_S,
    MARGIN,
    Window,
    check_found,
    check_voiced,
    cut_at,
    part_of,
)
from affetto.generators.voice.render import render
from affetto.generators.voice.residual_net import FACTOR
from affetto.generators.voice.speaker import SpeakerMeter
from affetto.generators.voice.time_map import TimeMap
from affetto.media.audio import Audio

BLOCK_S = 5.0

Block = Float32[np.ndarray, "channel _sample"]


@dataclass(frozen=True, kw_only=True)
class VoicePiece:
    """A finished piece: where it begins in the source and in the output (seconds), its sound, its own time map."""

    source_s: float
    output_s: float
    audio: Audio
    time_map: TimeMap


def split_blocks(audio: Audio) -> Iterator[Block]:
    """Sound in memory as blocks of five seconds."""
    size = round(BLOCK_S * audio.rate)
    for start in range(0, audio.samples.shape[1], size):
        yield audio.samples[:, start : start + size]


class VoiceStream:
    """Converts blocks of sound as they come, holding about half a minute of it."""

    def __init__(self, guide: Guide, embedder: VoiceEmbedder, rate: int, path: Path | None) -> None:
        self.guide, self.embedder, self.rate, self.path = guide, embedder, rate, path
        self._meter = SpeakerMeter()
        self._place = np.zeros(256)
        self._voice_s = 0.0
        self._measured = 0  # frames whose statistics are taken

    def pieces(self, blocks: Iterable[Block]) -> Iterator[VoicePiece]:
        """The pieces in order."""
        source = iter(blocks)
        held: list[Block] = []
        origin = done = 0  # frames: what `held` begins with, what has been given
        wanted = round(LONGEST_S * CONTROL_FPS) + 2 * MARGIN
        output_s, loudest, ended = 0.0, 0.0, False
        while True:
            while not ended and self._frames(held) < done - origin + wanted:
                block = next(source, None)
                ended = block is None
                if block is not None and block.shape[1]:
                    loudest = max(loudest, float(np.abs(block).max()))
                    held.append(block)
            sound = np.concatenate(held, axis=1) if held else np.zeros((1, 0), np.float32)
            if self._sample(done) - self._sample(origin) >= sound.shape[1]:
                break
            piece, done = self._convert(sound, origin, done, output_s, ended)
            output_s += piece.audio.seconds
            yield piece
            keep = max(origin, done - MARGIN)
            held = [sound[:, self._sample(keep) - self._sample(origin) :].copy()]
            origin = keep
        check_found(self.path, done / CONTROL_FPS, loudest)
        check_voiced(self.path, self._meter.read())

    def _convert(
        self, sound: Block, origin: int, done: int, output_s: float, ended: bool
    ) -> tuple[VoicePiece, int]:
        """The next piece of what is held, and the frame after its last."""
        audio = Audio(samples=sound, rate=self.rate)
        controls = analyse(audio.mono(), self.rate)
        start = done - origin
        stop = start + cut_at(controls.energy[start:])
        last = ended and stop == len(controls)
        fresh = max(self._measured - origin, 0)
        self._meter.add(part_of(controls, fresh, len(controls)))
        self._measured = origin + len(controls)
        begin = self._sample(done) - self._sample(origin)
        end = sound.shape[1] if last else self._sample(origin + stop) - self._sample(origin)
        original = Audio(samples=sound[:, begin:end], rate=self.rate)
        course = self.guide.course(origin, len(controls))
        speaker = self._meter.read()
        piece = VoicePiece(
            source_s=done / CONTROL_FPS,
            output_s=output_s,
            audio=original,
            time_map=TimeMap.identity(original.seconds),
        )
        if course.part(start, stop).idle or speaker.voiced_seconds == 0.0:
            return piece, origin + stop
        self._settle(audio)
        window = Window(
            start=start, stop=stop, low=max(0, start - MARGIN), high=min(len(controls), stop + MARGIN)
        )
        rows = self.guide.rows(controls, course, speaker, window, first=origin)
        if stop < len(controls):  # the frame at the cut belongs to both sides
            rows, stop_held = np.concatenate([rows, rows[-1:]]), stop + 1
        else:
            stop_held = stop
        residual = ControlResidual.from_stack(rows)
        if residual.is_zero:
            return piece, origin + stop
        part = part_of(controls, start, stop_held)
        made = render(original, part, residual, keep_timing=self.guide.options.keep_timing)
        made = settled(made, original, part, residual)
        finished = replace(piece, audio=made.audio, time_map=made.time_map)
        return finished, origin + stop

    def _settle(self, audio: Audio) -> None:
        """Move the place of the source toward what was heard last, as long as there is little of it."""
        heard = audio.seconds
        self._place += heard * self.embedder(audio)[0].numpy()
        self._voice_s += heard
        place = self._place / self._voice_s
        self.guide.settle(place, felt_already(self.embedder, place, self.guide.bank.names))

    def _frames(self, held: list[Block]) -> int:
        return int(sum(block.shape[1] for block in held) * CONTROL_FPS / self.rate)

    def _sample(self, frame: int) -> int:
        """The sample at which a frame lies; exact for multiples of four frames at all usual rates."""
        return round(frame * self.rate / CONTROL_FPS)


assert MARGIN % FACTOR == 0
