"""Facts about many machines: nodes and workers that die cost no row, and shares are disjoint and complete.

The cluster is Ray's own stand-in: two nodes on this machine, of one CPU each.
"""

import os
import pickle
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lgutils import files, fleet
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.fleet import Job, Results, Row, backends, cluster

BLINK = replace(fleet.FEW_SHOT, epochs=1)
BASE = Job("cnn", "learngene", ("features.4", "features.7"), Task(), fit=BLINK)
ASKED = fleet.grid(BASE, task=range(12))


def row(job):
    return Row(job, 0.5, ((2, 0.5),), 0.25, 1.5, "task", {"device": "none"})


# --- shares of a job array ------------------------------------------------------------------------


MIXED = (
    fleet.grid(BASE, method=("learngene", "scratch"), task=range(25))
    + fleet.grid(replace(BASE, family="vit"), task=range(11))
    + fleet.grid(BASE, epochs=(5,), task=range(7))
)


def test_shares_are_disjoint_and_together_everything():
    shares = [fleet.part(MIXED, k, 6) for k in range(1, 7)]
    assert sorted(j.key for share in shares for j in share) == sorted(j.key for j in MIXED)


def test_shares_differ_by_one_job_at_most_and_by_one_of_each_kind():
    shares = [fleet.part(MIXED, k, 6) for k in range(1, 7)]
    kinds = {(j.family, j.method, j.fit.epochs) for j in MIXED}
    assert len(kinds) == 4
    for kind in [(), *kinds]:
        sizes = [
            sum(kind in ((), (j.family, j.method, j.fit.epochs)) for j in share) for share in shares
        ]
        assert max(sizes) - min(sizes) <= 1


def test_a_share_depends_on_the_set_of_jobs_only():
    shuffled = random.Random(0).sample(MIXED, len(MIXED)) + MIXED[:5]
    mine = {j.key for j in fleet.part(MIXED, 2, 5)}
    assert {j.key for j in fleet.part(shuffled, 2, 5)} == mine
    assert len(fleet.part(shuffled, 2, 5)) == len(mine)


def test_more_shares_than_jobs_leave_some_empty():
    assert [len(fleet.part(ASKED[:2], k, 4)) for k in range(1, 5)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("k", "n"), [(0, 4), (5, 4), (1, 0)])
def test_a_share_that_does_not_exist_is_refused(k, n):
    with pytest.raises(UserError, match=f"Part {k} of {n}"):
        fleet.part(ASKED, k, n)


# --- shards ---------------------------------------------------------------------------------------


def test_shards_hold_every_job_once_and_one_architecture_each():
    found = cluster.shards(MIXED, 2)
    assert sorted(j.key for shard in found for j in shard) == sorted(j.key for j in MIXED)
    assert {len({(j.family, j.fit.epochs) for j in shard}) for shard in found} == {1}


def test_every_worker_gets_several_shards_of_limited_size():
    assert [len(shard) for shard in cluster.shards(ASKED, 2)] == [2] * 6
    assert max(len(shard) for shard in cluster.shards(MIXED, 1)) == cluster.LARGEST


def test_a_task_gives_what_was_finished_and_the_error():
    def work(jobs):
        yield [row(jobs[0])]
        raise UserError("the second one is bad")

    rows, error = pickle.loads(pickle.dumps(cluster._shard(work, ASKED, fleet_code(), ())))
    assert rows == [row(ASKED[0])]
    assert isinstance(error, UserError)
    assert "the second one is bad" in error.__notes__[0]


def fleet_code():
    return cluster.code_version()


def test_a_node_with_another_lgutils_is_refused():
    rows, error = cluster._shard(None, ASKED, "another", ())
    assert rows == []
    assert f"another lgutils (code {fleet_code()}) than this process (another)" in str(error)


@pytest.mark.parametrize("before", [None, b"older"])
def test_an_ancestor_is_put_into_the_cache_of_a_node(own_cache, monkeypatch, before):
    monkeypatch.setattr(cluster, "_ray", lambda: SimpleNamespace(get=lambda content: content))
    if before:
        own_cache.mkdir()
        (own_cache / "ancestor-x.safetensors").write_bytes(before)
    cluster._place([("../ancestor-x.safetensors", files.sha256(b"newer"), b"newer")])
    assert {p.name: p.read_bytes() for p in own_cache.iterdir()} == {
        "ancestor-x.safetensors": b"newer"
    }


def test_an_ancestor_that_is_there_is_not_fetched_again(own_cache, monkeypatch):
    monkeypatch.setattr(cluster, "_ray", None)
    own_cache.mkdir()
    (own_cache / "a").write_bytes(b"same")
    cluster._place([("a", files.sha256(b"same"), b"same")])
    assert (own_cache / "a").read_bytes() == b"same"


def test_ancestors_that_are_not_shipped_are_sent_with_their_name(own_cache, monkeypatch):
    other = replace(BASE, ancestor_seed=7)
    name = f"ancestor-cnn-{other.ancestry.key}.safetensors"

    def train(job):
        if job == other:
            own_cache.mkdir()
            (own_cache / name).write_bytes(b"weights")

    monkeypatch.setattr(cluster, "ancestor_of", train)
    sent = cluster._ancestors(SimpleNamespace(put=lambda data: data), [BASE, other])
    assert sent == {
        BASE.ancestry.key: [],
        other.ancestry.key: [(name, files.sha256(b"weights"), b"weights")],
    }
    assert cluster._files_of([BASE, other, other], sent) == sent[other.ancestry.key]


# --- connecting -----------------------------------------------------------------------------------


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "lgutils\[cluster\]"'):
        fleet.run(ASKED, backend="ray")


class FakeRay:
    """Takes down how it was started; with a cluster it refuses CPUs, as Ray does."""

    def __init__(self, connected=False, there=False, answers=True):
        self.connected, self.there, self.answers, self.told = connected, there, answers, []

    def is_initialized(self):
        return self.connected

    def init(self, **options):
        if self.there and "num_cpus" in options:
            raise ValueError("num_cpus must not be provided")
        if not self.answers:
            raise ConnectionError("nobody")
        self.told.append(("init", options.get("num_cpus")))

    def shutdown(self):
        self.told.append(("shutdown", None))


@pytest.mark.parametrize(
    ("ray", "told"),
    [
        (FakeRay(), [("init", 3), ("shutdown", None)]),
        (FakeRay(there=True), [("init", None), ("shutdown", None)]),
        (FakeRay(connected=True), []),
    ],
    ids=["none", "running", "connected"],
)
def test_a_cluster_is_started_joined_or_used_and_left_as_it_was(monkeypatch, ray, told):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(KeyboardInterrupt), cluster._connected(ray, 3):
        raise KeyboardInterrupt
    assert ray.told == told


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_where_nobody_answers_is_told_at_once(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    ray = FakeRay(there=True)
    with pytest.raises(UserError, match=f"at {address} "), cluster._connected(ray, 1):
        pass
    assert ray.told == []


def test_a_cluster_that_is_gone_is_told(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay(there=True, answers=False)
    with pytest.raises(UserError, match=r"left here \(nobody\)"), cluster._connected(ray, 1):
        pass


def test_a_machine_too_busy_for_ray_to_start_is_told(monkeypatch):
    def late(**options):
        raise Exception("The current node timed out during startup")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay()
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(UserError, match="less busy"), cluster._connected(ray, 1):
        pass


def test_auto_takes_the_cluster_that_the_environment_names(monkeypatch):
    many = fleet.grid(BASE, task=range(backends.FEW))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert backends.choose(many, 2) == {"ray": many}
    assert list(backends.choose(many[1:], 2)) == ["serial"]


def test_auto_leaves_ray_alone_without_an_address_or_with_no_workers(monkeypatch):
    many = fleet.grid(BASE, task=range(backends.FEW))
    monkeypatch.setattr(backends, "_fastest", lambda kind, workers: "serial")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert list(backends.choose(many, 2)) == ["serial"]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert list(backends.choose(many, 0)) == ["serial"]


def test_the_environment_of_lgutils_is_passed_on(monkeypatch):
    for name in cluster.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LGUTILS_SCALE", "quick")
    assert cluster._environment() == {
        "env_vars": {"LGUTILS_SCALE": "quick", "OMP_NUM_THREADS": "1"}
    }


# --- collecting -----------------------------------------------------------------------------------


class Ended:
    """Ray, where some tasks have ended: task -> what `get` gives or raises."""

    def __init__(self, **outcomes):
        self.outcomes, self.cancelled = outcomes, []
        self.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=LookupError)

    def wait(self, tasks, num_returns=1, timeout=None):
        ended = [task for task in tasks if task in self.outcomes][:num_returns]
        return ended, [task for task in tasks if task not in ended]

    def get(self, task):
        if isinstance(self.outcomes[task], Exception):
            raise self.outcomes[task]
        return self.outcomes[task]

    def cancel(self, task, force):
        self.cancelled.append(task)


def test_the_rows_of_all_ended_tasks_come_before_the_error_and_the_rest_is_cancelled():
    one, two, three = map(row, ASKED[:3])
    ray = Ended(a=([one], UserError("bad")), b=([two, three], None))
    found = cluster._collected(ray, ["a", "b", "c", "d"])
    assert next(found) == [one, two, three]
    with pytest.raises(UserError, match="bad"):
        next(found)
    assert ray.cancelled == ["c", "d"]


def test_a_stop_cancels_what_has_not_ended():
    ray = Ended(a=([row(ASKED[0])], None))
    found = cluster._collected(ray, ["a", "b"])
    next(found)
    found.close()
    assert ray.cancelled == ["b"]


def test_an_error_while_storing_stops_the_tasks_at_once(monkeypatch, tmp_path):
    ray = Ended(a=([row(ASKED[0])], None))
    monkeypatch.setattr(cluster, "run", lambda *_: cluster._collected(ray, ["a", "b"]))

    def full(results, rows):
        raise UserError("the disk is full")

    monkeypatch.setattr(fleet.Results, "add", full)
    with (
        fleet.Results(tmp_path / "rows.sqlite") as results,
        pytest.raises(UserError, match="the disk is full"),
    ):
        fleet.run(ASKED, results=results, backend="ray")
    assert ray.cancelled == ["b"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(LookupError("gone"), "lost 6 times"), (KeyError("no lgutils"), "Install this lgutils")],
)
def test_a_task_that_ray_gives_up_is_told_in_one_sentence(error, sentence):
    rows, found = cluster._outcome(Ended(a=error), "a")
    assert rows == []
    assert isinstance(found, UserError)
    assert sentence in str(found)


# --- a cluster of two nodes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes():
    """A head and a second node; `RAY_ADDRESS` names them. Sockets need a short path, hence no tmp_path."""
    pytest.importorskip("ray")
    patch = pytest.MonkeyPatch()
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        Path(folder, "ray").mkdir()
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        from ray.cluster_utils import Cluster

        size = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        size |= {"include_log_monitor": False, "no_monitor": True, "include_dashboard": False}
        config = {"prestart_worker_first_driver": False, "health_check_period_ms": 500}
        head = {"temp_dir": folder, "_system_config": config}
        two = Cluster(initialize_head=True, head_node_args=size | head)
        second = two.add_node(**size)
        patch.setenv("RAY_ADDRESS", two.address)
        yield SimpleNamespace(cluster=two, second=second)
        two.shutdown()
        patch.undo()


@pytest.fixture(scope="module")
def connected(nodes):
    """This process is connected, so that several sweeps share the workers."""
    import ray

    with cluster._connected(ray, 1):
        yield ray


@pytest.mark.multiprocess
def test_a_node_that_dies_in_mid_sweep_costs_no_row(nodes, tmp_path, monkeypatch):
    log, second, alone = tmp_path / "log", nodes.second.node_id, cluster._one_by_one

    def hanging(jobs):
        """As ever, but the second node never gets to an end."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        with log.open("a") as handle:
            handle.writelines(f"{here} {job.key}\n" for job in jobs)
        if here == second:
            time.sleep(600)
        yield from alone(jobs)

    class Cutting(Results):
        """With the first rows the second node goes down, in the middle of its shard."""

        def add(self, rows):
            super().add(rows)
            for _ in range(900):
                if second in log.read_text():
                    break
                time.sleep(0.1)
            if nodes.second in nodes.cluster.worker_nodes:
                nodes.cluster.remove_node(nodes.second, allow_graceful=False)

    monkeypatch.setattr(cluster, "_one_by_one", hanging)
    with Cutting(tmp_path / "r.sqlite") as results:
        found = fleet.run(ASKED, results=results, backend="ray")
        assert len(results) == len(ASKED)
    begun = [line.split() for line in log.read_text().splitlines()]
    lost = {key for node, key in begun if node == second}
    assert lost
    assert Counter(key for _, key in begun) == {j.key: 1 + (j.key in lost) for j in ASKED}
    serial = fleet.run(ASKED, backend="serial")
    assert [(r.job, r.curve, r.task_key, r.about) for r in found] == [
        (r.job, r.curve, r.task_key, r.about) for r in serial
    ]


@pytest.mark.multiprocess
def test_a_worker_that_dies_once_costs_no_row(connected, tmp_path):
    died = tmp_path / "died"

    def dying(jobs):
        if any(job.task.seed == 3 for job in jobs) and not died.exists():
            died.touch()
            os._exit(1)
        yield [Row(job, 0.5, ((2, 0.5),), 0.25, 1.5, "task", {"device": "none"}) for job in jobs]

    found = [r for rows in cluster.run(ASKED, 1, dying) for r in rows]
    assert died.exists()
    assert sorted(r.job.key for r in found) == sorted(j.key for j in ASKED)
    assert connected.is_initialized()


@pytest.mark.multiprocess
def test_a_job_that_raises_ends_the_run_after_storing_what_was_finished(
    connected, tmp_path, monkeypatch
):
    def failing(jobs):
        yield [Row(jobs[0], 0.5, ((2, 0.5),), 0.25, 1.5, "task", {"device": "none"})]
        raise UserError("the second one is bad")

    monkeypatch.setattr(cluster, "_one_by_one", failing)
    with Results(tmp_path / "r.sqlite") as results:
        with pytest.raises(UserError, match="the second one is bad"):
            fleet.run(ASKED, results=results, backend="ray")
        stored = {r.job.key for r in results.find(ASKED).values()}
    assert stored
    assert stored <= {shard[0].key for n in (1, 2) for shard in cluster.shards(ASKED, n)}
