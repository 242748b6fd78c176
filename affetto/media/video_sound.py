"""The sound of a video file."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from affetto.media.audio import MAX_SECONDS, Audio
from affetto.media.video import probe_video
from affetto.runtime.errors import InvalidInputError

RATE = 48_000


def read_sound(path: str | Path, *, max_seconds: float = MAX_SECONDS) -> Audio | None:
    """The first sound track of a video as stereo or mono at 48 kHz; None when it has none.

    Raises `InvalidInputError` like `affetto.media.video.probe_video`, and for sound that cannot be decoded.
    """
    path = Path(path)
    if not probe_video(path, max_seconds=max_seconds).has_audio:
        return None
    limit = round((max_seconds + 1.0) * RATE)
    parts: list[np.ndarray] = []
    held = 0
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.audio[0]
            layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=RATE)
            for frame in container.decode(stream):
                for piece in resampler.resample(frame):
                    parts.append(piece.to_ndarray())
                    held += parts[-1].shape[1]
                if held > limit:
                    raise InvalidInputError(
                        f"{path}: its sound lasts more than {max_seconds:.0f} s: cut it into parts"
                    )
            parts += [piece.to_ndarray() for piece in resampler.resample(None)]
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path}: its sound is damaged: copy or export it again") from error
    if not parts:
        return None
    samples = np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)
    return Audio(samples=samples, rate=RATE, path=path)
