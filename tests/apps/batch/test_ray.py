"""The Ray engine for real: the same bytes as the local one, and nothing lost when a node is killed."""

import time

import pytest

pytest.importorskip("ray")
from affetto.apps.batch.executor import Executor
from affetto.apps.batch.ray_executor import RayExecutor
from affetto.runtime.errors import UsageError
from tests.apps.batch import ray_drills
from tests.apps.batch.fake import FakeWorkshop, job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with ray_drills.cluster() as made:
        yield made


def test_ray_and_local_give_the_same_bytes_on_fractions_of_a_gpu(cluster, tmp_path):
    verdict = ray_drills.same_bytes(cluster, tmp_path, jobs=10)
    assert verdict.is_clean, verdict
    assert verdict.did["files of the same bytes"] == 10


def test_a_killed_node_loses_no_job(cluster, tmp_path):
    verdict = ray_drills.kill_nodes(cluster, tmp_path, jobs=60, kills=1)
    assert verdict.is_clean, verdict
    assert verdict.did["nodes killed"] == 1


def test_a_job_that_hangs_on_ray_stops_within_two_seconds_of_being_cancelled(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    executor = RayExecutor(["cpu"], workshop=FakeWorkshop)
    assert isinstance(executor, Executor)
    while not executor.free:
        executor.poll(0.1)
    executor.submit(job("hang.mid", "hangs"), tmp_path / "hang.mid", patience_s=60.0)
    while not (tmp_path / "hang.tried").exists():
        executor.poll(0.1)
    began, events = time.monotonic(), []
    executor.cancel("hang.mid")
    while not any(event.kind == "cancelled" for event in events):
        events += executor.poll(0.1)
    assert time.monotonic() - began < 4.0  # two seconds, and room for a busy machine
    executor.close()
    cluster.remove_node(node)


def test_a_share_of_no_gpu_is_refused():
    with pytest.raises(UsageError, match="--gpu-share 0"):
        RayExecutor(["cuda:0"], gpu_share=0.0)
