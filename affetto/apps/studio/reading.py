"""What takes models to find in a project's media, found by processes of their own: the page's server stays small.

When each word is said, for a recording whose text is written; where the points of a face lie, for a picture.
"""

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affetto.media.image import look_at_picture
from affetto.runtime.errors import AffettoError, error_of
from affetto.runtime.files import atomic_path

_WORDS = """
def found(audio, text, language):
    from affetto.media.audio import load_audio
    from affetto.speech.reader import ContentReader
    from affetto.speech.words import timed_words
    samples = load_audio(audio, max_seconds=600.0).resampled(16_000).mono()
    words = timed_words(samples, text, language, ContentReader.from_pretrained(device="cpu"))
    return [[each.word, round(each.start, 3), round(each.end, 3)] for each in words]
"""
_POINTS = """
def found(picture):
    from affetto.generators.portrait.detect import FaceFinder
    from affetto.generators.portrait.portrait import find_faces
    from affetto.media.image import load_image
    image = load_image(picture)
    faces = find_faces(image, FaceFinder.from_pretrained(device="cpu"), cache_key=None)
    return {"size": [image.shape[1], image.shape[0]], "faces": [face.points.round(1).tolist() for face in faces[:9]]}
"""
_RUN = """
import json, os, sys
from affetto.runtime.errors import AffettoError
{body}
os.nice(5)
try:
    print(json.dumps(found(**json.load(sys.stdin))))
except AffettoError as error:
    sys.stderr.write(str(error))
    sys.exit(error.exit_code)
"""
_LIMIT_S = 300.0
_SETTLED_S = 1.5  # a text that is still being typed is not read


def _asked(body: str, **request: str) -> Any:
    """What a process of its own finds; raises what it raised."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RUN.format(body=body)], input=json.dumps(request), text=True, capture_output=True,
        timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return json.loads(done.stdout)
    told = done.stderr.strip().splitlines()
    raise error_of(done.returncode, told[-1] if told else f"a reader ended with {done.returncode}")


def face_points(picture: Path) -> dict[str, Any]:
    """`size` (width, height) of a picture and the 68 points of each of its `faces`, the largest first."""
    look_at_picture(picture)
    return _asked(_POINTS, picture=str(picture))


class WordReader:
    """Finds out in the background when words are said; what was found lies beside the recording."""

    def __init__(
        self, read: Callable[..., Any] = _asked, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._busy: set[str] = set()
        self._since: dict[str, tuple[str, float]] = {}
        self._guard = threading.Lock()

    def words(self, recording: Path, text: str, language: str) -> list[list[Any]] | None:
        """Word, start and end of each, or None while that is not known; calls begin to find out once a text has settled."""
        if not text.strip():
            return []
        sought = hashlib.sha256(f"{language}\n{text}".encode()).hexdigest()[:16]
        kept = recording.with_name(f".{recording.name}.words.json")
        try:
            known = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        if known.get("of") == sought:
            return known["words"]
        with self._guard:
            if self._since.get(str(kept), ("", 0.0))[0] != sought:
                self._since[str(kept)] = (sought, self._clock())
            settled = self._clock() - self._since[str(kept)][1] >= _SETTLED_S
            if str(kept) in self._busy or not settled:
                return None
            self._busy.add(str(kept))
        work = threading.Thread(
            target=self._find, args=(recording, text, language, sought, kept), daemon=True
        )
        work.start()
        return None

    def _find(self, recording: Path, text: str, language: str, sought: str, kept: Path) -> None:
        try:
            words = self._read(_WORDS, audio=str(recording), text=text, language=language)
        except (
            AffettoError,
            subprocess.TimeoutExpired,
        ):  # no espeak-ng, or other words: keys snap to the voice
            words = []
        try:
            with atomic_path(kept) as temporary:
                temporary.write_text(json.dumps({"of": sought, "words": words}), encoding="utf-8")
        finally:
            with self._guard:
                self._busy.discard(str(kept))
