"""What the machine can do: cores that are free, and the arithmetic that it is fast at."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from lgutils import machine, train
from lgutils.data import Normalize
from lgutils.machine import Arithmetic
from lgutils.train import FitConfig

CPU = torch.device("cpu")
AUTO = FitConfig(epochs=1, batch_size=8, precision="auto")


@pytest.fixture
def able(monkeypatch):
    """A function: make the machine fast at this and that."""

    def make(bfloat16: bool, channels_last: bool = True) -> None:
        made = Arithmetic(bfloat16, channels_last)
        monkeypatch.setattr(machine, "arithmetic", lambda kind="cpu": made)

    return make


def trained(config: FitConfig) -> train.Fitted:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=random)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    return train.fit(model, (images, torch.arange(16) % 2), normalize, config)


# --- arithmetic -------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="limits are those of x86")
def test_a_processor_with_avx2_only_is_not_fast_at_bfloat16():
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    ask = "from lgutils import machine; print(machine.arithmetic().bfloat16)"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | limits, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


def test_a_processor_that_says_no_is_not_asked_to_try(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    machine.arithmetic.cache_clear()
    try:
        assert not machine.arithmetic().bfloat16
    finally:
        machine.arithmetic.cache_clear()


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_asked_whether_it_has_bfloat16_of_its_own(monkeypatch, has):
    def query(including_emulation=True):
        return has or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", query)
    machine.arithmetic.cache_clear()
    try:
        assert machine.arithmetic("cuda") == Arithmetic(has, True)
    finally:
        machine.arithmetic.cache_clear()


def test_the_probe_leaves_threads_and_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = torch.get_num_threads()
    machine._tried()
    assert torch.get_num_threads() == before
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(os.name != "posix", reason="a clock too coarse")
def test_waiting_for_other_programs_does_not_count_as_slow(monkeypatch):
    def step(dtype):  # bfloat16 waits, float32 computes
        fast = dtype == torch.bfloat16
        return (lambda: time.sleep(0.02)) if fast else (lambda: sum(range(20_000)))

    monkeypatch.setattr(machine, "_step", step)
    assert machine._tried()


@pytest.mark.parametrize(("has", "same"), [(True, "bfloat16"), (False, "float32")])
def test_auto_trains_as_the_machine_is_fast(able, has, same):
    able(bfloat16=has)
    auto, named = trained(AUTO), trained(replace(AUTO, precision=same))
    assert train.weight_hash(auto.model) == train.weight_hash(named.model)
    assert auto.arithmetic == named.arithmetic == f"{same}, channels last"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_named_is_taken_whatever_the_machine(able, precision):
    able(bfloat16=precision != "bfloat16")
    assert replace(AUTO, precision=precision).precision_on(CPU) == precision


def test_the_memory_layout_follows_the_machine(able):
    able(bfloat16=False, channels_last=False)
    fitted = trained(AUTO)
    assert fitted.arithmetic == "float32"
    assert fitted.model[0].weight.is_contiguous()


def test_old_keys_hold_where_a_preset_now_says_auto():
    assert AUTO.told() == replace(AUTO, precision="bfloat16").told()


# --- cores and threads ------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 4), (1.0, 8)])
def test_cores_that_others_keep_busy_are_not_free(monkeypatch, share, expected):
    ticks = iter([1000, 1000 + round(share * 8 * 0.1 * os.sysconf("SC_CLK_TCK"))])
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "_idle", lambda: next(ticks))
    assert machine.free_cores(0.1) == expected


def test_where_the_system_does_not_tell_all_cores_count_as_free(monkeypatch):
    def missing() -> int:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(machine, "_idle", missing)
    assert machine.free_cores() == machine.cores()


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="the system tells no idle time")
def test_where_the_system_counts_no_idle_time_all_cores_count_as_free(monkeypatch):
    lines = "".join(f"cpu{core} 0 0 0 0 0 0\n" for core in os.sched_getaffinity(0))
    monkeypatch.setattr(machine.Path, "read_text", lambda path: lines)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert machine.free_cores(0.01) == 8


def test_on_windows_no_process_ends_since_its_parent_has_another_number(monkeypatch):
    ended = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "_exit", ended.append)
    machine.end_with(-1)
    time.sleep(0.1)
    assert not ended


@pytest.fixture
def two_threads(monkeypatch):
    """A process that torch gave two threads, on two cores of which one is free."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "free_cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_training_takes_no_more_threads_than_cores_are_free(two_threads):
    with machine.free_threads() as threads:
        assert threads == torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_NUM_THREADS", "2"), ("OMP_WAIT_POLICY", "passive")]
)
def test_threads_that_the_user_chose_or_that_sleep_while_they_wait_stay(
    two_threads, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    with machine.free_threads() as threads:
        assert threads == 2


def test_the_command_lets_waiting_threads_sleep():
    show = (
        "import os, sys; from lgutils.cli import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "finally: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", show], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split()[-2:] == ["PASSIVE", "False"], done.stderr
