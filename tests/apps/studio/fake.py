"""A workshop that makes a scene's files without models: quickly, slowly or not at all, as the scene's title says."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from affetto.apps.batch.engines import describe_file
from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.specs import RenderJob
from affetto.media.audio import load_audio, save_audio
from affetto.media.video_writer import VideoWriter
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent


class FakeScenes:
    """Opened in the studio's worker process."""

    def __init__(self, *, device: str, dtype: str) -> None:
        pass

    def make(
        self, job: PlannedJob, target: Path, *, progress: ProgressCallback, cancel: CancelToken
    ) -> dict[str, Any]:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(job.spec, RenderJob):
            target.write_bytes(b"made")
            return describe_file(target)
        scene = yaml.safe_load(job.spec.scene.read_text())
        if scene["title"] == "broken":
            raise InvalidInputError("scene.yaml: <b>broken</b> on purpose: mend it")
        steps = 600 if scene["title"] == "slow" else 3
        for step in range(steps):
            progress(
                ProgressEvent(
                    stage="acting", done=step, total=steps, preview=lambda: {"peaks": [0.1, 0.9, 0.4]}
                )
            )
            cancel.check()
            time.sleep(0.05)
        folder = target.parent
        sound = load_audio(folder / scene["speech"]["audio"])
        save_audio(folder / "mix.wav", sound)
        with VideoWriter(folder / "head.mp4", (128, 128), 25, sound) as video:
            for number in range(25):
                video.write(np.full((128, 128, 3), number * 8, np.uint8))
        with atomic_path(target) as temporary:
            temporary.write_text('{"recipe": 1}')
        return describe_file(target)
