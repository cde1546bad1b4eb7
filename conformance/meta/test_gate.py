"""The regression gate and saved runs: a slowdown is detected and named, and nothing else is."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import soprano
from conformance.speed import regression_gate, worker
from conformance.speed.regression_gate import ROUNDS, SESSIONS, judge, measure
from conformance.speed.saved_runs import find_run, slowdowns
from conformance.speed.worker_process import WorkerProcess
from soprano.backends import installed_backends
from soprano.bench import PARTS

TREE = Path(soprano.__file__).parents[1]


def seconds_of(seed, factor, count=12, spread=0.02):
    """Seconds (sessions, 3, ROUNDS) on a busy machine; the candidate is slower by `factor`.

    Each process has its own speed, which varies by `spread`.
    """
    generator = np.random.default_rng(seed)
    load = 1 + generator.exponential(0.5, (count, 1, ROUNDS))  # common to a round
    of_process = np.exp(generator.normal(0, spread, (count, 3, 1)))
    noise = 1 + generator.exponential(0.05, (count, 3, ROUNDS))
    return np.array([[1], [1], [factor]]) * load * of_process * noise


def test_a_slowdown_of_ten_percent_is_detected_and_none_is_not():
    assert sum(judge("part", seconds_of(seed, 1.1)).slower for seed in range(20)) >= 19
    assert sum(judge("part", seconds_of(seed, 1.0)).slower for seed in range(40)) <= 1


def test_a_candidate_as_fast_as_the_control_is_not_slower():
    seconds = seconds_of(0, 1.0)
    seconds[:, 0] /= 1.2
    assert not judge("part", seconds).slower


def test_the_unit_of_the_interval_is_the_session_not_the_round():
    """Rounds of one session share their processes: taken as sessions, they give false alarms."""
    few = [seconds_of(seed, 1.0, SESSIONS[0], spread=0.3) for seed in range(40)]
    assert sum(judge("part", seconds).slower for seconds in few) <= 1
    rounds = [seconds[:1].swapaxes(0, 2) for seconds in few]  # (ROUNDS, 3, 1)
    assert sum(judge("part", seconds).slower for seconds in rounds) > 4


def test_the_process_that_is_opened_first_rotates_and_their_order_stays(monkeypatch):
    opened = []

    class Process:
        def __init__(self, script, arguments):
            self.tree = arguments["tree"]
            opened.append(self.tree)

        def close(self): ...

    monkeypatch.setattr(regression_gate, "WorkerProcess", Process)
    trees = ["baseline", "control", "candidate"]
    for number in range(3):
        with regression_gate._opened([{"tree": tree} for tree in trees], number) as processes:
            assert [process.tree for process in processes] == trees
    assert opened[::3] == trees


def test_a_part_that_is_missing_or_renamed_is_an_error(tmp_path):
    shutil.copytree(TREE / "soprano", tmp_path / "soprano")
    definitions = tmp_path / "soprano" / "bench.py"
    definitions.write_text(definitions.read_text("utf-8").replace('"istft"', '"inverse"'), "utf-8")
    with pytest.raises(LookupError, match="missing: istft"):
        next(measure(TREE, tmp_path, installed_backends()[0], "nano"))


def test_a_planted_slowdown_is_detected_and_an_equal_tree_is_not_slower():
    slow = (next(part.callable for part in PARTS if part.name == "sample"), 2.0)
    backend = installed_backends()[0]
    verdicts = [next(measure(TREE, TREE, backend, "nano", "sample", s)) for s in (None, slow)]
    assert [verdict.slower for verdict in verdicts] == [False, True], list(map(str, verdicts))


@pytest.fixture(scope="module")
def seconds_with():
    """Seconds of a part in a worker where one callable is slowed, or none."""
    arguments = {"tree": str(TREE), "definitions": str(TREE / "soprano" / "bench.py")}
    arguments |= {"backend": installed_backends()[0], "model": "nano"}
    with ExitStack() as stack:

        @cache
        def open_worker(slow):
            process = WorkerProcess(worker.__file__, {**arguments, "slow": slow})
            return stack.enter_context(closing(process))

        yield lambda slow, part: min(open_worker(slow).ask(part) for _ in range(3))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_takes_longer_if_its_callable_is_slowed(seconds_with, part):
    assert seconds_with((part.callable, 20.0), part.name) > 5 * seconds_with(None, part.name)


def test_a_worker_that_ends_is_an_error_with_its_standard_error(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys\ndef start(): return 1, sys.exit")
    process = WorkerProcess(script, {})
    assert process.first_answer == 1
    with pytest.raises(ChildProcessError, match="out of memory"):
        process.ask("out of memory")


@pytest.fixture
def storage(tmp_path):
    def save(number, **seconds):
        content = {
            "datetime": f"2026-01-0{number}T00:00:00",
            "commit_info": {"id": f"{number}" * 40},
            "benchmarks": [{"name": n, "stats": {"min": s}} for n, s in seconds.items()],
        }
        (tmp_path / f"000{number}_run.json").write_text(json.dumps(content))

    save(1, step=1.0, decode=2.0)
    save(2, step=9.0)
    return tmp_path


def test_the_newest_run_with_the_same_names_is_found(storage):
    assert find_run(storage, ["decode", "step"]).commit == "1" * 40
    assert find_run(storage, ["step"]).commit == "2" * 40


@pytest.mark.parametrize("names", [["step", "decode", "prefill"], ["steps", "decode"], []])
def test_a_missing_or_renamed_benchmark_is_an_error_that_names_it(storage, names):
    with pytest.raises(LookupError, match=r"missing now: .*not in it: "):
        find_run(storage, names)


def test_a_storage_without_runs_is_an_error(tmp_path):
    with pytest.raises(LookupError, match="no saved run"):
        find_run(tmp_path, ["step"])


def test_a_slowdown_names_its_benchmark_and_nan_is_one():
    saved = {"step": 1.0, "decode": 1.0}
    assert slowdowns({"step": 1.9, "decode": 0.5}, saved) == []
    assert slowdowns({"step": 2.1, "decode": 0.5}, saved)[0].startswith("step: 2.10 times")
    assert slowdowns({"step": float("nan"), "decode": 1.0}, saved)[0].startswith("step: nan")
