"""The gate and the saved runs: a slowdown is red and named, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conformance.speed import regression_gate as gate
from conformance.speed.gate_power import plant
from conformance.speed.regression_gate import ROUNDS, SITTINGS, judge, measure
from conformance.speed.saved_runs import breaches, newest_with
from soprano.backends import installed_backends
from soprano.checkpoint.folder import locate


def sittings(
    seed: int, slower: float, count: int = 12, luck: float = 0.02
) -> npt.NDArray[np.float64]:
    """Seconds of baseline, control and candidate on a machine that is often disturbed.

    Each process has a luck of its own for as long as it lives.
    """
    generator = np.random.default_rng(seed)
    drift = 1 + generator.exponential(0.5, (count, 1, ROUNDS))  # common to a round
    of_process = np.exp(generator.normal(0, luck, (count, 3, 1)))
    own = 1 + generator.exponential(0.05, (count, 3, ROUNDS))
    return np.array([[1], [1], [slower]]) * drift * of_process * own


def test_ten_per_cent_are_seen_and_nothing_is_not():
    assert sum(judge("part", sittings(seed, 1.1)).slower for seed in range(20)) >= 19
    assert sum(judge("part", sittings(seed, 1.0)).slower for seed in range(40)) <= 1


def test_a_candidate_slower_than_one_of_two_equal_baselines_is_not_red():
    seconds = sittings(0, 1.0)
    seconds[:, 0] /= 1.2
    assert not judge("part", seconds).slower


def test_the_luck_of_processes_is_not_slowness():
    """Where the rounds of one sitting pass for sittings, equal trees are often red."""
    few = [sittings(seed, 1.0, SITTINGS[0], luck=0.3) for seed in range(40)]
    assert sum(judge("part", seconds).slower for seconds in few) <= 1
    rounds = [seconds[:1].swapaxes(0, 2) for seconds in few]  # (ROUNDS, 3, 1)
    assert sum(judge("part", seconds).slower for seconds in rounds) > 4


def test_each_side_is_opened_first_in_its_turn_and_keeps_its_place(monkeypatch):
    opened: list[Path] = []

    class Side:
        def __init__(self, tree: Path) -> None:
            self.tree = tree
            opened.append(tree)

        def close(self) -> None: ...

    monkeypatch.setattr(gate, "Side", Side)
    trees = [Path("baseline"), Path("control"), Path("candidate")]
    for number in range(3):
        with gate._opened(trees, number) as sides:
            assert [side.tree for side in sides] == trees
    assert opened[::3] == trees


def test_a_part_that_is_missing_or_renamed_is_an_error(tmp_path):
    import soprano

    trees = [tmp_path / name for name in ("baseline", "renamed")]
    for tree in trees:
        shutil.copytree(Path(soprano.__file__).parent, tree / "soprano")
    definitions = trees[1] / "soprano" / "bench.py"
    definitions.write_text(
        definitions.read_text("utf-8").replace('"istft":', '"inverse":'), "utf-8"
    )
    with pytest.raises(LookupError, match="missing: istft"):
        next(measure(*trees, installed_backends()[0], str(locate("nano"))))


def test_a_part_that_is_slower_in_truth_is_red_and_an_equal_one_is_not(tmp_path):
    import soprano

    trees = [tmp_path / name for name in ("baseline", "same", "slower")]
    for tree in trees:
        shutil.copytree(Path(soprano.__file__).parent, tree / "soprano")
    plant(trees[2], "sample", 2.0)
    backend, model = installed_backends()[0], str(locate("nano"))
    verdicts = [next(measure(trees[0], t, backend, model, "sample")) for t in trees[1:]]
    assert [verdict.slower for verdict in verdicts] == [False, True], list(map(str, verdicts))


@pytest.fixture
def storage(tmp_path):
    def save(number: int, **seconds: float) -> None:
        content = {
            "datetime": f"2026-01-0{number}T00:00:00",
            "commit_info": {"id": f"{number}" * 40},
            "benchmarks": [{"name": n, "stats": {"min": s}} for n, s in seconds.items()],
        }
        (tmp_path / f"000{number}_run.json").write_text(json.dumps(content))

    save(1, step=1.0, decode=2.0)
    save(2, step=9.0)
    return tmp_path


def test_the_newest_run_of_the_same_names_is_taken(storage):
    assert newest_with(storage, ["decode", "step"]).commit == "1" * 40
    assert newest_with(storage, ["step"]).commit == "2" * 40


@pytest.mark.parametrize("names", [["step", "decode", "prefill"], ["steps", "decode"], []])
def test_a_missing_or_renamed_benchmark_is_an_error_that_names_it(storage, names):
    with pytest.raises(LookupError, match=r"missing now: .*not in it: "):
        newest_with(storage, names)


def test_a_storage_without_runs_is_an_error(tmp_path):
    with pytest.raises(LookupError, match="no saved run"):
        newest_with(tmp_path, ["step"])


def test_a_breach_names_its_part_and_nan_is_one():
    saved = {"step": 1.0, "decode": 1.0}
    assert breaches({"step": 1.9, "decode": 0.5}, saved) == []
    assert breaches({"step": 2.1, "decode": 0.5}, saved)[0].startswith("step: 2.10 times")
    assert breaches({"step": float("nan"), "decode": 1.0}, saved)[0].startswith("step: nan")
