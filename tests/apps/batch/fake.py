"""A workshop without models: it writes the job's seed, and behaves as the job's emotion says."""

import os
import time
from pathlib import Path
from typing import Any

from affetto.apps.batch.engines import describe_file
from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.specs import MusicJob
from affetto.runtime.errors import InvalidInputError, MissingResourceError, OutOfMemoryError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

BEHAVIOUR = {
    "C": "ok", "D": "dies", "E": "hangs", "F": "refuses", "G": "steps", "A": "dies once", "B": "lacks weights",
    "Am": "runs out of memory",
}  # fmt: skip


def job(output: str, behaviour: str = "ok", **options: Any) -> PlannedJob:
    """A planned job; its key signature tells the fake what to do."""
    key = next(key for key, name in BEHAVIOUR.items() if name == behaviour)
    spec = MusicJob(generator="music", output=output, key=key, seconds=1.0, **options)
    return PlannedJob(spec=spec, key=f"{abs(hash((output, behaviour))):024x}"[:24], seed=7, media_s=1.0)


class FakeWorkshop:
    """Opened in each worker process as the generators would be."""

    def __init__(self, *, device: str, dtype: str) -> None:
        self.device, self.dtype = device, dtype

    def make(
        self, job: PlannedJob, target: Path, *, progress: ProgressCallback, cancel: CancelToken
    ) -> dict[str, Any]:
        assert isinstance(job.spec, MusicJob)
        behaviour = BEHAVIOUR[job.spec.key or "C"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if behaviour == "dies" or (behaviour == "dies once" and not target.with_suffix(".tried").exists()):
            target.with_suffix(".tried").touch()
            os._exit(9)
        if behaviour == "hangs":
            time.sleep(60)
        if behaviour == "refuses":
            raise InvalidInputError(f"{target.name}: is not sound: give sound")
        if behaviour == "lacks weights":
            raise MissingResourceError(f"{target.name}: weights are missing: pull them")
        if behaviour == "runs out of memory":
            raise OutOfMemoryError(f"{target.name}: out of memory")
        if behaviour == "steps":
            for step in range(600):
                progress(ProgressEvent(stage="steps", done=step, total=600))
                cancel.check()
                time.sleep(0.05)
        with atomic_path(target) as temporary:
            temporary.write_text(f"{job.spec.output} {job.seed}\n" * 200)
            time.sleep(0.01)
        return describe_file(target)
