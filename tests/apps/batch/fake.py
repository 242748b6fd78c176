"""A workshop without models: it writes the job's seed, and behaves as the job's key says. The rest is the real one's."""

import os
import time
from pathlib import Path
from typing import Any

from affetto.apps.batch.engines import Workshop
from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.specs import MusicJob
from affetto.runtime.errors import InvalidInputError, MissingResourceError, OutOfMemoryError
from affetto.runtime.files import atomic_path
from affetto.runtime.memory import together
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

BEHAVIOUR = {
    "C": "ok", "D": "dies", "E": "hangs", "F": "refuses", "G": "steps", "A": "dies once", "B": "lacks weights",
    "Am": "runs out of memory", "Em": "needs room for one", "Dm": "hangs once",
}  # fmt: skip
LOG = "made.log"
"""Where it exists beside the outputs, every output that is finished adds its name."""


def job(output: str, behaviour: str = "ok", **options: Any) -> PlannedJob:
    """A planned job; its key signature tells the fake what to do."""
    key = next(key for key, name in BEHAVIOUR.items() if name == behaviour)
    spec = MusicJob(generator="music", output=output, key=key, seconds=1.0, **options)
    return PlannedJob(spec=spec, key=f"{abs(hash((output, behaviour))):024x}"[:24], seed=7, media_s=1.0)


def content(output: str, seed: int = 7) -> str:
    """What a good job writes."""
    return f"{output} {seed}\n" * 200


class FakeWorkshop(Workshop):
    """Opened in each worker process as the generators would be."""

    def _music(
        self, spec: MusicJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        behaviour, tried = BEHAVIOUR[spec.key or "C"], target.with_suffix(".tried")
        if behaviour == "dies" or (behaviour == "dies once" and not tried.exists()):
            tried.touch()
            os._exit(9)
        if behaviour == "hangs" or (behaviour == "hangs once" and not tried.exists()):
            tried.touch()
            time.sleep(60)
        if behaviour == "refuses":
            raise InvalidInputError(f"{target.name}: is not sound: give sound")
        if behaviour == "lacks weights":
            raise MissingResourceError(f"{target.name}: weights are missing: pull them")
        if behaviour == "runs out of memory":
            raise OutOfMemoryError(f"{target.name}: out of memory")
        if behaviour == "needs room for one" and together(4) > 1:
            raise MemoryError
        if behaviour == "steps":
            for step in range(600):
                progress(ProgressEvent(stage="steps", done=step, total=600))
                cancel.check()
                time.sleep(0.05)
        text = content(spec.output, seed)
        with atomic_path(target) as temporary, temporary.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            time.sleep(0.01)
            file.write(text[len(text) // 2 :])
        if (log := target.parent / LOG).exists():
            with log.open("a") as file:
                file.write(f"{spec.output}\n")
