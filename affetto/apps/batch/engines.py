"""What a worker does with a job: load the generator once, run it, write the output and the recipe beside it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import affetto
from affetto.apps.batch.plan import PlannedJob
from affetto.apps.batch.specs import FaceJob, JobSpec, MusicJob, RenderJob, TalkJob, VoiceJob
from affetto.provenance.listings import RECIPE_SUFFIX
from affetto.provenance.manifests import Origin
from affetto.provenance.recipes import recorded
from affetto.provenance.sealing import sealed
from affetto.runtime.memory import Layout, sparing
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.weights.store import sha256_of

GENERATORS = {
    "face": "FaceAnimator",
    "voice": "VoiceConverter",
    "music": "MusicComposer",
    "talk": "TalkingHead",
}


class Workshop:
    """The generators of one process: each is loaded when a job first needs it, and kept."""

    def __init__(self, *, device: str = "auto", dtype: str = "auto") -> None:
        self._asked = device
        self._where = {"device": device, "dtype": dtype}
        self._loaded: dict[tuple[str, str], Any] = {}

    def make(
        self, job: PlannedJob, target: Path, *, progress: ProgressCallback, cancel: CancelToken
    ) -> dict[str, Any]:
        """Write the job's output to `target` and its recipe beside it; what the output is, for the store.

        A job that runs out of memory is made again with less at once (see `runtime.memory`); its recipe tells so.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        makers: dict[type[JobSpec], Callable[..., None]] = {
            FaceJob: self._face, VoiceJob: self._voice, MusicJob: self._music, TalkJob: self._talk,
            RenderJob: self._render,
        }  # fmt: skip
        make = makers[type(job.spec)]

        def attempt(layout: Layout) -> None:
            self._settle(layout, job.spec)
            with recorded({"job": _unplaced(job)}):
                make(job.spec, job.seed, target, progress, cancel)

        spared = sparing(job.spec.output, attempt, device=self._asked)
        described = describe_file(target)
        if isinstance(job.spec, RenderJob):  # what it wrote is the recipe
            return described
        with sealed(recipe_path(target), Origin(generator=job.spec.kind)) as temporary:
            recipe = job_recipe(job) | {"file": {"name": target.name, "sha256": described["sha256"]}}
            if spared.savings:
                recipe["memory"] = {"savings": list(spared.savings), "exact": spared.exact}
            temporary.write_text(json.dumps(recipe, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return described

    def _settle(self, layout: Layout, spec: JobSpec) -> None:
        """Work where and with as little as the layout says; each job begins with all, whatever the one before gave up."""
        self._where["device"] = layout.device or self._asked
        if layout.alone:
            mine = (GENERATORS.get(spec.kind, ""), self._where["device"])
            self._loaded = {key: loaded for key, loaded in self._loaded.items() if key == mine}

    def _generator(self, name: str) -> Any:
        key = (name, self._where["device"])
        if key not in self._loaded:
            self._loaded[key] = getattr(affetto, name).from_pretrained("embedded", **self._where)
        return self._loaded[key]

    def _face(
        self, spec: FaceJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        options = spec.model_dump(
            include={"fps", "text", "language", "articulation", "head_motion", "blinks", "gaze"}
        )
        animation = self._generator(GENERATORS["face"])(
            spec.audio, spec.emotion, seed=seed, callback_on_step_end=progress, cancel=cancel, **options
        )
        animation.save(target, size=spec.size, overwrite=True, progress=progress, cancel=cancel)

    def _voice(
        self, spec: VoiceJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        options = spec.model_dump(include={"bank", "strength", "level", "keep_timing", "steps"})
        conversion = self._generator(GENERATORS["voice"])(
            spec.audio, spec.emotion, seed=seed, callback_on_step_end=progress, cancel=cancel, **options
        )
        conversion.save(target, overwrite=True)

    def _music(
        self, spec: MusicJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        options = spec.model_dump(
            include={"like", "mode", "seconds", "bars", "key", "tempo", "metre", "ensemble", "loop", "ending"}
        )
        piece = self._generator(GENERATORS["music"])(
            spec.emotion, seed=seed, callback_on_step_end=progress, cancel=cancel, **options
        )
        piece.save(target)

    def _talk(
        self, spec: TalkJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        from affetto.generators.portrait.pipeline import TalkOptions  # heavy: most batches have no portraits

        options = spec.model_dump(
            include={
                "fps",
                "size",
                "frame",
                "audio_guidance",
                "emotion_guidance",
                "articulation",
                "head_motion",
                "blinks",
                "gaze",
            }
        )
        video = self._generator(GENERATORS["talk"])(
            spec.portrait,
            spec.audio,
            spec.emotion,
            face=spec.face,
            landmarks=_marks(spec),
            motion=spec.motion,
            options=TalkOptions(seed=seed, **options),
            callback_on_step_end=progress,
            cancel=cancel,
        )
        video.save(target, overwrite=True, progress=progress, cancel=cancel)

    def _render(
        self, spec: RenderJob, seed: int, target: Path, progress: ProgressCallback, cancel: CancelToken
    ) -> None:
        from affetto.scene.director import Director  # heavy, and most batches hold no scenes
        from affetto.scene.loading import load_scene
        from affetto.scene.model import Scene

        loaded = load_scene(spec.scene)
        changes = {"size": spec.size, "seed": seed if spec.seed is not None else None}
        document = loaded.scene.model_dump(exclude_unset=True)
        document |= {name: value for name, value in changes.items() if value is not None}
        scene = replace(loaded, scene=Scene.model_validate(document))
        Director(scene, device=self._where["device"], dtype=self._where["dtype"]).render(
            target.parent, overwrite=True, callback=progress, cancel=cancel
        )


def _marks(spec: TalkJob) -> Any:
    """The points of the face that a job gives, or None: they are found."""
    if spec.landmarks is None:
        return None
    from affetto.generators.portrait.landmark_files import read_landmarks
    from affetto.media.image import load_image

    height, width = load_image(spec.portrait).shape[:2]
    return read_landmarks(spec.landmarks, (width, height))


def recipe_path(target: Path) -> Path:
    """Where the recipe of an output lies."""
    return target.with_name(target.name + RECIPE_SUFFIX)


def _unplaced(job: PlannedJob) -> dict[str, Any]:
    """What makes the output again wherever it is written: the same job gives the same bytes under any name."""
    return {name: value for name, value in job_recipe(job)["job"].items() if name not in ("id", "output")}


def job_recipe(job: PlannedJob) -> dict[str, Any]:
    """All that makes the same output again, as a line of a manifest and what it was made with."""
    return {
        "affetto": affetto.__version__,
        "job": job.spec.model_dump(mode="json", exclude_none=True) | {"seed": job.seed},
        "key": job.key,
    }


def describe_file(path: Path) -> dict[str, Any]:
    """Size, time of change and SHA-256 of a file: by these a later run knows it again."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256_of(path)}
