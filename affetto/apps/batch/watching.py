"""A hot folder: every recording that arrives becomes a job of a template."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affetto.apps.batch.manifest import explained
from affetto.apps.batch.specs import JOB, JobSpec
from affetto.runtime.errors import InvalidInputError

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
SETTLED_S = 2.0


class HotFolder:
    """Looks at a folder again and again; a file counts as arrived once its size has not changed for two seconds.

    What lies elsewhere does not arrive through a link: whoever may put links there shall not choose what is read.
    """

    def __init__(self, folder: Path, template: Mapping[str, Any], *, settled_s: float = SETTLED_S) -> None:
        self._folder = folder
        self._template = dict(template)
        self._settled_s = settled_s
        self._sizes: dict[Path, tuple[int, float]] = {}
        self._taken: set[Path] = set()

    def arrived(self, now: float | None = None) -> Iterator[JobSpec]:
        """The jobs of the files that have arrived since the last look.

        Raises InvalidInputError for a wrong template, once for each link out of the folder, and when it cannot be read.
        """
        now = time.monotonic() if now is None else now
        for path in self._recordings():
            if not path.resolve().is_relative_to(self._folder.resolve()):
                self._taken.add(path)
                raise InvalidInputError(
                    f"{path.name}: is a link that leads out of the folder: copy the file there"
                )
            try:
                size = path.stat().st_size
            except OSError:  # it went as it was looked at, or points at nothing
                continue
            known, since = self._sizes.get(path, (-1, now))
            if size != known:
                self._sizes[path] = (size, now)
            elif size > 0 and now - since >= self._settled_s:
                self._taken.add(path)
                yield self._job(path)

    def _recordings(self) -> list[Path]:
        """What lies in the folder and was not taken yet."""
        try:
            found = sorted(self._folder.iterdir())
        except OSError as error:
            raise InvalidInputError(
                f"{self._folder}: cannot be read ({error.strerror}): is it gone?"
            ) from error
        seen = (path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
        return [path for path in seen if path not in self._taken]

    def _job(self, path: Path) -> JobSpec:
        """The template with {stem} replaced and the recording in its place."""
        row = {
            name: value.replace("{stem}", path.stem) if isinstance(value, str) else value
            for name, value in self._template.items()
        } | {"audio": str(path.resolve())}
        try:
            return JOB.validate_python(row)
        except ValidationError as error:
            reasons = "; ".join(explained(error, row))
            raise InvalidInputError(f"{path.name}: the template makes no job of it: {reasons}") from error
