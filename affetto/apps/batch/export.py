"""Handing a batch to a farm (a Slurm array or an OpenJD job whose tasks run their shares), or a queue to another machine.

No task needs to know of the others: `--shard i/n` keeps the jobs whose keys fall to it, and `affetto batch merge` unites
the stores afterwards.
"""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import yaml

from affetto.apps.batch.plan import PlannedJob
from affetto.runtime.errors import UsageError
from affetto.runtime.files import atomic_path

MAX_TASKS = 10_000


def slurm_script(manifest: Path, folder: Path, *, tasks: int, gpus: int = 0, arguments: str = "") -> str:
    """A script for `sbatch`: an array of `tasks`, each with two cores and, when asked, a GPU."""
    _check_tasks(tasks)
    gpu = [f"#SBATCH --gres=gpu:{gpus}"] if gpus else []
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=affetto",
        f"#SBATCH --array=1-{tasks}",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=8G",
        *gpu,
        "#SBATCH --requeue",
        "# Exit code 75 means that trying again may help: put the task back.",
        f'{_command(manifest, folder, arguments)} --shard "${{SLURM_ARRAY_TASK_ID}}/{tasks}"',
        "status=$?",
        'if [ "$status" -eq 75 ]; then scontrol requeue "${SLURM_JOB_ID}"; fi',
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def openjd_template(manifest: Path, folder: Path, *, tasks: int, arguments: str = "") -> str:
    """An Open Job Description template (jobtemplate-2023-09) with one step of `tasks` tasks."""
    _check_tasks(tasks)
    script = (
        "#!/usr/bin/env bash\nset -euo pipefail\n"
        f"affetto batch run '{{{{RawParam.Manifest}}}}' -o '{{{{RawParam.Output}}}}' {arguments}"
        f" --shard {{{{Task.Param.Shard}}}}/{tasks}\n"
    )
    template = {
        "specificationVersion": "jobtemplate-2023-09",
        "name": f"affetto {manifest.stem}",
        "parameterDefinitions": [
            {
                "name": "Manifest", "type": "PATH", "objectType": "FILE", "dataFlow": "IN",
                "default": str(manifest.resolve()),
            },
            {
                "name": "Output", "type": "PATH", "objectType": "DIRECTORY", "dataFlow": "OUT",
                "default": str(folder.resolve()),
            },
        ],
        "steps": [
            {
                "name": "Render",
                "parameterSpace": {
                    "taskParameterDefinitions": [{"name": "Shard", "type": "INT", "range": f"1-{tasks}"}]
                },
                "script": {
                    "actions": {"onRun": {"command": "bash", "args": ["{{Task.File.Run}}"]}},
                    "embeddedFiles": [{"name": "Run", "type": "TEXT", "data": script}],
                },
            }
        ],
    }  # fmt: skip
    return yaml.safe_dump(template, sort_keys=False, allow_unicode=True)


def manifest_of(jobs: Iterable[PlannedJob]) -> str:
    """The jobs as a JSONL manifest: inputs by their absolute paths, every seed written down, no id twice."""
    seen: set[str | None] = {None}
    lines = []
    for job in jobs:
        row = job.spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        row |= {"generator": job.spec.kind, "seed": job.seed}
        if job.spec.id in seen:
            row.pop("id", None)
        seen.add(job.spec.id)
        lines.append(json.dumps(row, ensure_ascii=False, sort_keys=True))
    return "\n".join(lines) + "\n"


def write_text(path: Path, text: str, *, overwrite: bool) -> Path:
    """Write an export whole or not at all."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _command(manifest: Path, folder: Path, arguments: str) -> str:
    words = [
        "affetto",
        "batch",
        "run",
        str(manifest.resolve()),
        "-o",
        str(folder.resolve()),
        *shlex.split(arguments),
    ]
    return shlex.join(words)


def _check_tasks(tasks: int) -> None:
    if not 1 <= tasks <= MAX_TASKS:
        raise UsageError(f"--tasks {tasks}: use 1 to {MAX_TASKS}")
