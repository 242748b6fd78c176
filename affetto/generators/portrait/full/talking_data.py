"""Prepared clips as training data: what the frozen networks see is computed once and kept, windows are drawn from it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from affetto.conditioning.anchors import ANCHORS_8
from affetto.generators.portrait.full.framing import FaceBox, Framed, face_mask
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.prepare_videos import COLUMNS, FORMAT, INDEX
from affetto.generators.portrait.full.speech import speech_states, speech_windows
from affetto.generators.portrait.full.synchro_emotion import Evidence
from affetto.generators.portrait.full.synchro_reference import draw_motion
from affetto.media.audio import load_audio
from affetto.media.cells import text_of
from affetto.media.video import read_frames
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent
from affetto.weights.store import read_arrays, save_tensors

_CACHE_FORMAT = "affetto-talking-cache-1"
_LOOKS = 5  # frames of a clip whose picture embeddings are kept
_AT_ONCE = 8  # frames encoded together


@dataclass(frozen=True, kw_only=True)
class TalkingClip:
    """One row of a prepared folder."""

    name: str
    folder: Path
    emotion: int  # among ANCHORS_8
    level: int
    scene: str


def read_prepared(folder: str | Path) -> list[TalkingClip]:
    """The clips of a folder that `prepare_videos` wrote; raises InvalidInputError with the line that is wrong."""
    path = Path(folder) / INDEX
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {name: text_of(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            f"{path}: cannot be read ({error}): run affetto prepare-videos first"
        ) from error
    if not rows or any(column not in rows[0] for column in COLUMNS):
        raise InvalidInputError(f"{path}: is no index of prepared videos: run affetto prepare-videos again")
    clips = []
    for number, row in enumerate(rows, start=2):
        if row["emotion"] not in ANCHORS_8 or row["level"] not in ("1", "2", "3"):
            raise InvalidInputError(
                f"{path}, line {number}: emotion or level is wrong: use {', '.join(ANCHORS_8)}; 1 to 3"
            )
        if (
            Path(row["clip"]).name != row["clip"]
            or not (path.parent / f"{row['clip']}.safetensors").is_file()
        ):
            raise InvalidInputError(
                f"{path}, line {number}: no clip {row['clip']!r}: prepare the videos again"
            )
        clips.append(
            TalkingClip(
                name=row["clip"], folder=path.parent, emotion=ANCHORS_8.index(row["emotion"]), level=int(row["level"]),
                scene=row["scene"],
            )
        )  # fmt: skip
    return clips


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenClip:
    """A clip as the networks that stay frozen see it."""

    latents: Float[Tensor, "frame 4 row column"]  # unscaled
    speech: Float[Tensor, "frame 10 layer width"]
    images: Float[Tensor, "look embed"]  # of a few frames
    looked: Int[Tensor, "look"]  # which ones
    points: Float[np.ndarray, "frame 68 2"]  # in shares of the picture's side
    mask: Float[Tensor, "pixel_row pixel_column"]  # at the picture's size, 0..1
    evidence: Evidence


@torch.inference_mode()
def see(clip: TalkingClip, pipe: DiceTalkPipeline) -> SeenClip:
    """Look at and listen to a prepared clip."""
    arrays, metadata = read_arrays(clip.folder / f"{clip.name}.safetensors")
    if metadata.get("format") != FORMAT:
        raise InvalidInputError(
            f"{clip.folder / clip.name}.safetensors: is no prepared clip: prepare the videos again"
        )
    frames = [frame for _, frame in read_frames(clip.folder / f"{clip.name}.mp4")][: len(arrays["points"])]
    side = frames[0].shape[0]
    boxes = arrays["points"].reshape(-1, 2)
    low, high = boxes.min(axis=0), boxes.max(axis=0)
    face = FaceBox.about_points((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    mask = face_mask(face, (side, side), (side, side))
    framed = [Framed(picture=frame, mask=mask, face=face, crop=(0, 0, side, side)) for frame in frames]
    encoder = pipe.vae.to(torch.float32)
    latents = [
        encoder.encode(
            torch.cat([each.pixels() for each in framed[at : at + _AT_ONCE]]).to(pipe.vae.device)
        ).latent_dist.mode()
        for at in range(0, len(framed), _AT_ONCE)
    ]
    looked = np.unique(np.linspace(0, len(frames) - 1, _LOOKS).round().astype(int))
    images = [
        pipe.image_encoder(
            framed[at].for_clip().to(pipe.image_encoder.device, pipe.image_encoder.dtype)
        ).image_embeds
        for at in looked
    ]
    states = speech_states(pipe.speech, load_audio(clip.folder / f"{clip.name}.wav"))
    return SeenClip(
        latents=torch.cat(latents).cpu(),
        speech=speech_windows(states, len(frames)).float().cpu(),
        images=torch.cat(images).float().cpu(),
        looked=torch.from_numpy(looked),
        points=arrays["points"] / side,
        mask=mask,
        evidence=Evidence(**{name: arrays[name] for name in ("text", "speech", "affect", "confidence")}),
    )


def seen_clips(
    clips: Sequence[TalkingClip],
    pipe: DiceTalkPipeline,
    cache: Path,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[SeenClip]:
    """Every clip seen; what was seen before is read from `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    seen = []
    for number, clip in enumerate(clips):
        if cancel is not None:
            cancel.check()
        path = cache / f"{clip.name}.safetensors"
        if not path.is_file():
            _keep(path, see(clip, pipe))
        seen.append(_kept(path))
        if progress is not None:
            progress(ProgressEvent(stage="see", done=number + 1, total=len(clips)))
    return seen


def _keep(path: Path, clip: SeenClip) -> None:
    evidence = clip.evidence
    save_tensors(
        path,
        {
            "latents": clip.latents.half(), "speech": clip.speech.half(), "images": clip.images, "looked": clip.looked,
            "points": clip.points.astype(np.float32), "mask": clip.mask.half(), "text": evidence.text,
            "heard": evidence.speech, "affect": evidence.affect, "confidence": evidence.confidence,
        },
        {"format": _CACHE_FORMAT},
    )  # fmt: skip


def _kept(path: Path) -> SeenClip:
    arrays, _ = read_arrays(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return SeenClip(
        latents=tensors["latents"], speech=tensors["speech"], images=tensors["images"], looked=tensors["looked"],
        points=arrays["points"], mask=tensors["mask"],
        evidence=Evidence(
            text=arrays["text"], speech=arrays["heard"], affect=arrays["affect"], confidence=arrays["confidence"]
        ),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class TalkingBatch:
    """Windows of clips, in the order in which the objectives take them."""

    latents: Float[Tensor, "clip frame 4 row column"]
    reference: Float[Tensor, "clip 4 row column"]  # of another frame, unscaled
    image: Float[Tensor, "clip embed"]
    speech: Float[Tensor, "clip frame 10 layer state"]
    points: Float[Tensor, "clip frame 136"]
    drawing: Float[Tensor, "clip 3 row column"]
    mask: Float[Tensor, "clip pixel_row pixel_column"]
    evidence: Float[Tensor, "clip frame 16"]  # text 3, speech 8, affect 2, confidence 3
    label: Int[Tensor, "clip 2"]
    scene: Float[Tensor, "clip token width"]

    def tensors(self) -> tuple[Tensor, ...]:
        """All of it."""
        return (
            self.latents, self.reference, self.image, self.speech, self.points, self.drawing, self.mask, self.evidence,
            self.label, self.scene,
        )  # fmt: skip


def draw_batch(
    clips: Sequence[TalkingClip],
    seen: Sequence[SeenClip],
    scenes: Sequence[Float[Tensor, "token width"]],
    *,
    size: int,
    frames: int,
    rng: np.random.Generator,
) -> TalkingBatch:
    """So many windows of `frames` frames of clips of the same picture size; short clips are repeated at their end."""
    rows = []
    for _ in range(size):
        index = int(rng.integers(len(seen)))
        rows.append(_window(clips[index], seen[index], scenes[index], frames, rng))
    return TalkingBatch(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _window(
    clip: TalkingClip,
    seen: SeenClip,
    scene: Float[Tensor, "token width"],
    frames: int,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    length = len(seen.latents)
    start = int(rng.integers(0, max(length - frames, 0) + 1))
    index = np.minimum(np.arange(start, start + frames), length - 1)
    look = int(rng.integers(len(seen.looked)))
    points = seen.points[index]
    centred = points - points.mean(axis=1, keepdims=True)
    rows, columns = seen.latents.shape[-2:]
    evidence = seen.evidence
    told = [each[index] for each in (evidence.text, evidence.speech, evidence.affect, evidence.confidence)]
    return {
        "latents": seen.latents[index].float(),
        "reference": seen.latents[int(seen.looked[look])].float(),
        "image": seen.images[look],
        "speech": seen.speech[index].float(),
        "points": torch.from_numpy(centred.reshape(frames, -1)).float(),
        "drawing": torch.from_numpy(
            draw_motion(points[frames // 2 : frames // 2 + 1], (1, 1), (columns, rows))[0]
        ),
        "mask": seen.mask.float(),
        "evidence": torch.from_numpy(np.concatenate(told, axis=1)).float(),
        "label": torch.tensor([clip.emotion, clip.level]),
        "scene": scene.float(),
    }
