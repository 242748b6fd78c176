"""From a manifest to jobs that can run: inputs looked at, keys and seeds fixed, time and disk estimated."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import affetto
from affetto.apps.batch.manifest import Manifest, ManifestError
from affetto.apps.batch.specs import JOB, MAX_SEED, JobSpec, MusicJob, RenderJob
from affetto.conditioning.track import as_track
from affetto.media.audio import look_at_sound
from affetto.media.files import checked_size
from affetto.media.image import look_at_picture
from affetto.media.midi import look_at_midi
from affetto.provenance.consent import settle_consent
from affetto.runtime.errors import AffettoError
from affetto.weights.registry import REGISTRY
from affetto.weights.store import file_state

KEY_VERSION = 1
"""Part of every key: raise it when the same parameters come to give other files."""

_DEFAULT_MUSIC_S = 30.0

# Processor seconds on one core for a second of media, and bytes for one, until this folder's own jobs tell better;
# taken from docs/face.md, docs/voice.md, docs/music.md and docs/portrait.md.
_COST = {".mp4": 1.4, ".mov": 2.0, "face": 0.05, "voice": 0.1, "music": 0.2, "talk": 0.2, "render": 4.0}
_BYTES = {
    ".csv": 45e3, ".json": 60e3, ".npz": 10e3, ".glb": 15e3, ".usda": 60e3, ".usdc": 20e3, ".mp4": 120e3, ".mov": 4e6,
    ".wav": 96e3, ".flac": 50e3, ".mid": 1e3, ".midi": 1e3, ".png": 5e3,
}  # fmt: skip
_MESH_BYTES = 6e6  # a head that comes with the curves


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """A job that is sound. `key` names what comes out: the same key is the same content, whatever it is called."""

    spec: JobSpec
    key: str
    seed: int
    media_s: float
    line: int = 0

    @property
    def name(self) -> str:
        """The manifest's own id, else the output."""
        return self.spec.id or self.spec.output

    @property
    def shard_hash(self) -> int:
        """A number that spreads jobs evenly over shards, the same on every machine."""
        return int(self.key[:12], 16)


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What a batch would do and cost, with all that is wrong with its manifest."""

    jobs: tuple[PlannedJob, ...]
    errors: tuple[ManifestError, ...]
    missing_weights: tuple[str, ...]

    @property
    def media_s(self) -> float:
        """Seconds of media to be made."""
        return sum(job.media_s for job in self.jobs)

    @property
    def bytes(self) -> float:
        """About how much the outputs will take on disk."""
        return sum(estimated_bytes(job) for job in self.jobs)

    def seconds(self, workers: int = 1, costs: Mapping[str, float] | None = None) -> float:
        """About how long the jobs take on so many workers, models loaded; `costs` are measured ones, see `cost_key`."""
        costs = costs or {}
        work = sum(job.media_s * costs.get(cost_key(job.spec), estimated_cost(job.spec)) for job in self.jobs)
        return work / max(workers, 1)


def plan_batch(
    manifest: Manifest,
    *,
    batch_seed: int = 0,
    shard: tuple[int, int] | None = None,
    folder: Path | None = None,
) -> BatchPlan:
    """Every job of a manifest, its media looked at in one process with limits.

    `shard` (i of n, from 1) keeps that share of the jobs, by their keys.
    With `folder`, jobs whose outputs would leave it through a link there are errors.
    """
    jobs: list[PlannedJob] = []
    errors = list(manifest.errors)
    for line, spec in manifest.jobs:
        try:
            jobs.append(plan_job(spec, batch_seed=batch_seed, line=line))
        except AffettoError as error:
            errors.append(ManifestError(line=line, message=str(error)))
    if folder is not None:
        errors += leaving(jobs, folder)
    if shard is not None:
        index, count = shard
        jobs = [job for job in jobs if job.shard_hash % count == index - 1]
    kinds = {job.spec.kind for job in jobs}
    missing = tuple(
        sorted(
            {weight for kind in kinds for weight in _weights(kind) if file_state(REGISTRY[weight]) != "ok"}
        )
    )
    return BatchPlan(
        jobs=tuple(jobs), errors=tuple(sorted(errors, key=lambda error: error.line)), missing_weights=missing
    )


def leaving(jobs: Iterable[PlannedJob], folder: Path) -> Iterator[ManifestError]:
    """An error for each job whose output lies behind a link that leads out of the folder."""
    real = folder.resolve()
    inside: dict[Path, bool] = {}
    for job in jobs:
        parent = (folder / job.spec.output).parent
        if not inside.setdefault(parent, parent.resolve().is_relative_to(real)):
            yield ManifestError(
                line=job.line, message=f"output {job.spec.output!r}: leaves the output folder through a link"
            )


def plan_job(spec: JobSpec, *, batch_seed: int = 0, line: int = 0) -> PlannedJob:
    """One job with its key and seed; raises what its inputs, its emotion or missing consent deserve."""
    track = as_track(spec.emotion)
    media_s = _media_seconds(spec)
    for field, what in (("portrait", "face"), ("audio", "voice")):
        if spec.kind in ("voice", "talk") and (path := dict(spec.files()).get(field)) is not None:
            settle_consent(path, None, what=what)
    parameters = spec.canonical()
    asked_seed = parameters.pop("seed")
    content = {
        "key": KEY_VERSION,
        "affetto": affetto.__version__,
        "parameters": parameters | {"emotion": str(track)},
        "inputs": {field: content_hash(path) for field, path in _inputs(spec)},
        "models": {weight: REGISTRY[weight].sha256 for weight in _weights(spec.kind)},
    }
    base = _hash(content)
    seed = asked_seed if asked_seed is not None else int(_hash([batch_seed, base])[:16], 16) & MAX_SEED
    return PlannedJob(spec=spec, key=_hash([base, seed]), seed=seed, media_s=media_s, line=line)


def spec_from_json(text: str) -> JobSpec:
    """The job that `JobSpec.model_dump_json` wrote."""
    return JOB.validate_json(text)


def cost_key(spec: JobSpec) -> str:
    """What jobs of like cost share: the generator and the kind of file."""
    return f"{spec.kind}{PurePosixPath(spec.output).suffix.lower()}"


def estimated_cost(spec: JobSpec) -> float:
    """Processor seconds for a second of media, from the documented figures."""
    return _COST[spec.kind] + _COST.get(PurePosixPath(spec.output).suffix.lower(), 0.0)


def estimated_bytes(job: PlannedJob) -> float:
    """About how large the output will be."""
    suffix = PurePosixPath(job.spec.output).suffix.lower()
    return _BYTES[suffix] * job.media_s + (_MESH_BYTES if suffix in (".glb", ".usda", ".usdc") else 0.0)


@cache
def content_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes; read once in each process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _media_seconds(spec: JobSpec) -> float:
    files = dict(spec.files())
    for path in files.values():
        checked_size(path, kind="input")
    if "portrait" in files:
        look_at_picture(files["portrait"])
    if "like" in files:
        look_at_midi(files["like"])
    if "audio" in files:
        return look_at_sound(files["audio"], whole=False).seconds
    if isinstance(spec, MusicJob):
        return spec.seconds or (2.0 * spec.bars if spec.bars else _DEFAULT_MUSIC_S)
    if isinstance(spec, RenderJob):
        from affetto.scene.loading import load_scene  # a scene's libraries take a second to import
        from affetto.scene.planning import plan_scene

        loaded = load_scene(spec.scene)
        return plan_scene(loaded.scene, loaded.base, reads_words=True).seconds
    return 0.0


def _inputs(spec: JobSpec) -> Iterator[tuple[str, Path]]:
    """Every file that a job reads, those that a scene names among them."""
    yield from spec.files()
    if isinstance(spec, RenderJob):
        from affetto.scene.loading import load_scene
        from affetto.scene.recipe import input_files

        loaded = load_scene(spec.scene)
        for name in input_files(loaded.scene):
            yield name, loaded.base / name


@cache
def _weights(kind: str) -> tuple[str, ...]:
    """The embedded weight files whose content decides what a generator makes."""
    prefixes = {"talk": ("portrait-", "face-", "head"), "render": ("",)}.get(kind, (f"{kind}-", "head"))
    critics = ("face-critic", "voice-critic", "music-copycheck")
    names: Iterable[str] = (
        name for name, entry in REGISTRY.items() if entry.embedded and name.startswith(prefixes)
    )
    return tuple(sorted(name for name in names if name not in critics))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
