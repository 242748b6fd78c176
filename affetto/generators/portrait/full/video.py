"""What a DICE-Talk run gives: latents that become frames when they are asked for, and how they were made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from affetto.generators.portrait.full.decoding import Picture, to_bytes
from affetto.generators.portrait.saving import origin_of, save_pictures
from affetto.media.audio import Audio
from affetto.provenance.sealing import marked_video
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

FPS = 25.0


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How a clip was made: the preset, precision, attention kernel, passes, estimate, and what memory made it give up."""

    preset: str
    dtype: str
    kernel: str
    devices: tuple[str, ...]
    branches: int
    windows: int
    passes: int  # of the denoiser, each over one window
    steps_done: int
    estimated_bytes: int
    given_up: tuple[str, ...] = ()
    same_result: bool = True  # whether what was given up leaves the pixels as they are


@dataclass(frozen=True, kw_only=True, eq=False)
class DiceTalkVideo:
    """A portrait that speaks, 25 frames a second; frames are decoded as they are read, so that length costs no memory."""

    latents: Float[Tensor, "frame 4 row column"]
    audio: Audio
    photo: Path | None  # None: it was given as pixels
    size: tuple[int, int]  # width, height
    count: int
    open_frames: Callable[["DiceTalkVideo"], Iterator[Picture]]
    report: Callable[[], RunReport]

    @property
    def fps(self) -> float:
        """Frames a second."""
        return FPS

    def __len__(self) -> int:
        return self.count

    def frames(self) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
        """The frames one by one, RGB."""
        return (to_bytes(picture) for picture in self.open_frames(self))

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Write .mp4 (H.264 and AAC), or numbered pictures: `frame_%05d.png` or a folder.

        Each frame is decoded, interpolated and encoded before the next. Raises UsageError for curves and meshes: DICE-Talk
        makes pixels only.
        """
        path = Path(path)
        suffix, origin = path.suffix.lower(), origin_of(self.photo, self.audio.path)
        if suffix in (".mp4", ".m4v"):
            with marked_video(path, self.size, FPS, self.audio, origin, overwrite=overwrite) as write:
                for frame in self._watched(progress, cancel):
                    write(frame)
        elif not suffix or (suffix == ".png" and "%" in path.name):
            save_pictures(path, self._watched(progress, cancel), origin, overwrite=overwrite)
        else:
            raise UsageError(f"{path}: DICE-Talk gives pixels: write .mp4, frame_%05d.png or a folder")
        return path

    def _watched(
        self, progress: ProgressCallback | None, cancel: CancelToken | None
    ) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
        for number, frame in enumerate(self.frames(), 1):
            if cancel is not None:
                cancel.check()
            yield frame
            if progress is not None:
                progress(ProgressEvent(stage="decode", done=number, total=self.count))
