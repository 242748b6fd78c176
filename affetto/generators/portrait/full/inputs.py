"""What a run begins with: sound that can be spoken, a face that was found, noise that a seed means."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from affetto.generators.portrait.full.clip import ClipConditions
from affetto.generators.portrait.full.framing import FaceBox, Framed, frame_portrait
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.media.audio import Audio, load_audio
from affetto.media.image import load_image
from affetto.runtime.errors import InvalidInputError

Photo = str | Path | UInt8[np.ndarray, "row column 3"]
Box = tuple[float, float, float, float] | FaceBox

_MAX_SECONDS = 800.0  # the published limit of 10,000 frames


def framed(
    photo: Photo, face: int | None, box: Box | None, options: DiceTalkOptions, device: torch.device
) -> Framed:
    """The picture about the face in it, at the size asked for; a `box` replaces the search for the face."""
    picture = photo if isinstance(photo, np.ndarray) else load_image(photo)
    name = "the picture" if isinstance(photo, np.ndarray) else str(photo)
    if box is None:
        box = _found(picture, name, face, device)
    elif not isinstance(box, FaceBox):
        box = FaceBox(left=box[0], top=box[1], right=box[2], bottom=box[3])
    return frame_portrait(picture, box, size=options.size or options.preset.size, crop=options.crop)


def speech_of(audio: Audio | str | Path) -> Audio:
    """The sound; raises InvalidInputError when it is silent or longer than 800 s."""
    speech = audio if isinstance(audio, Audio) else load_audio(audio, max_seconds=_MAX_SECONDS)
    if speech.seconds > _MAX_SECONDS:
        raise InvalidInputError(
            f"the sound lasts {speech.seconds:.0f} s, over {_MAX_SECONDS:.0f} s: cut it into parts"
        )
    if speech.is_silent:
        raise InvalidInputError(
            f"{speech.path or 'the sound'}: is silent (below -80 dB throughout): check the recording"
        )
    return speech


def _found(
    picture: UInt8[np.ndarray, "row column 3"], name: str, face: int | None, device: torch.device
) -> FaceBox:
    """The box of the face in a picture; raises InvalidInputError when there is none, or several and none is chosen."""
    from affetto.generators.portrait.detect import FaceFinder  # its network is not wanted when a box is given
    from affetto.generators.portrait.portrait import choose_face

    finder = FaceFinder.from_pretrained(device=device)
    return FaceBox.about_points(choose_face(finder(picture), name, face=face).box)


def noise_of(clip: ClipConditions, seed: int) -> Float[Tensor, "frame 4 row column"]:
    """Drawn on the CPU, so that a seed means the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clip.frames, *clip.latents.shape, generator=generator)
