"""Drills on a Ray cluster of several raylets on this machine: the same bytes as without Ray, killed nodes."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from affetto.apps.batch.executor import Executor, LocalExecutor
from affetto.apps.batch.ray_executor import RayExecutor
from affetto.apps.batch.runner import Runner, RunReport, prepare, state_folder
from affetto.apps.batch.store import JobStore
from affetto.apps.batch.worker import JobEvent
from tests.apps.batch.drills import STUBBORN, Verdict, fill, judged
from tests.apps.batch.fake import FakeWorkshop


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A head without places for jobs; drills add the nodes they need."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level="error")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def run(executor: Executor, folder: Path, watch: Callable[[JobEvent], None] | None = None) -> RunReport:
    """Run what the folder's store holds."""
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        try:
            return Runner(store, folder, executor, policy=STUBBORN, watch=watch).run()
        finally:
            executor.close()


def same_bytes(made: Any, base: Path, *, jobs: int) -> Verdict:
    """The same jobs by local workers and by two actors that share half of a (pretended) GPU each."""
    node = made.add_node(num_cpus=2, num_gpus=1)
    local, remote = base / "local", base / "ray"
    for folder in (local, remote):
        folder.mkdir()
        fill(folder, jobs)
    run(LocalExecutor(["cpu"], workshop=FakeWorkshop), local)
    run(RayExecutor(["cuda:0", "cuda:0"], gpu_share=0.5, workshop=FakeWorkshop), remote)
    made.remove_node(node)
    names = [path.relative_to(local) for path in local.glob("*/*.mid")]
    alike = sum((local / name).read_bytes() == (remote / name).read_bytes() for name in names)
    return replace(judged(remote, jobs), did={"files of the same bytes": alike, "GPU asked for by each": 0.5})


def kill_nodes(made: Any, folder: Path, *, jobs: int, kills: int) -> Verdict:
    """Kill -9 the raylet of one node after another while jobs run; a new node comes for each."""
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    fill(folder, jobs)
    ended = killed = 0

    def watch(event: JobEvent) -> None:
        nonlocal ended, killed
        ended += event.kind == "done"
        if killed < kills and ended >= jobs * (killed + 1) // (kills + 2):
            made.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(made.add_node(num_cpus=1))
            killed += 1

    run(RayExecutor(["cpu", "cpu"], workshop=FakeWorkshop), folder, watch)
    with JobStore(state_folder(folder) / "jobs.sqlite") as store:
        missing = prepare(store, folder, verify=True)["missing"]
    for node in nodes:
        made.remove_node(node)
    verdict = judged(folder, jobs)
    return replace(verdict, lost=verdict.lost + missing, did={"nodes killed": killed} | verdict.did)
