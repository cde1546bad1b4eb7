"""Generated ids are judged to their end: ties by chance are excused, defects are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.diagnosis.commands import ids as command
from conformance.diagnosis.generated_ids import (
    ANCHORS,
    OPTIONS,
    TOKENS,
    compare_utterances,
    sentences,
)
from conformance.diagnosis.probes import Probed
from conformance.faults.plant import with_stages
from conformance.golden.packs import fixture_models
from conformance.judging.compare import Limit
from conformance.judging.judge import Judge
from conformance.judging.reanchored import judge_reanchored, reanchored
from conformance.judging.records import TestRecord
from conformance.meta.diagnosis.defects import counted
from conformance.oracle.sampler_conventions import SAMPLERS
from conformance.subject import Subject
from soprano.config import SamplingOptions
from soprano.generate import Prompt

V11 = next(path for path in fixture_models() if path.name == "v11")
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.0)
LIMIT = Limit(4e-6, 4e-5, 8e-6, floor=1e-6)


def logits(*gaps):
    """Rows in which id 1 is ahead of id 2 by each gap."""
    rows = np.full((len(gaps), 8), -9.0)
    rows[:, 1], rows[:, 2] = gaps, 0.0
    return rows


def compare(ids, rows, actual=None):
    return reanchored([3], ids, GREEDY, [0.5] * len(ids), rows, LIMIT, actual=actual, text="a text")


def test_equal_ids_have_no_differences():
    found = compare([1, 1, 1], logits(1, 1, 1))
    assert (found.compared, found.differences, found.passed) == (3, [], True)


def test_ids_behind_a_tie_are_judged():
    found = compare([1, 2, 1, 2], logits(1, 1e-6, 1, 1))
    assert [(d.index, d.tie) for d in found.differences] == [(1, True), (3, False)]
    assert not found.passed
    assert "defect at id 3 of 'a text': got 2, wanted 1 (margin 1," in str(found.defects[0])
    assert found.defects[0].context == "1 2 1 [2]"


def test_a_margin_beyond_the_measured_error_is_a_defect():
    rows = logits(1, 2e-6)
    assert not compare([1, 2], rows, actual=rows + 1e-9).passed
    nearer = rows.copy()
    nearer[1, 2] += 3e-6
    assert compare([1, 2], rows, actual=nearer).passed


def test_more_ties_than_chance_explains_fail():
    assert compare([2], logits(1e-6)).passed
    found = compare([2] * 40, logits(*[8e-6] * 40))
    assert found.expected_ties < 1
    assert len(found.ties) == 40
    assert not found.passed


def test_the_reference_ids_are_fed_behind_a_difference():
    subject = with_stages(Subject(), sample=SAMPLERS["no penalty"])
    probed = Probed(subject, "onnx_cpu", V11, None)
    (text,) = sentences(1)
    found = compare_utterances(probed, "greedy", 1).found
    indices = [difference.index for difference in found.differences]
    assert len(indices) > 2
    assert indices == sorted(set(indices))
    fed = [difference.expected for difference in found.differences]
    right = Probed(Subject(), "onnx_cpu", V11, None)
    prompt, stages = right.stages.tokenize(text), right.stages
    own = list(stages.generate(stages, [Prompt(prompt, iter([]), OPTIONS["greedy"], TOKENS)]))
    assert [own[index].id for index in indices[:ANCHORS]] == fed[:ANCHORS]


def test_a_defect_fails_a_law_and_a_tie_is_counted():
    record = TestRecord("t", ("SY-03",), "onnx_cpu-v11")
    judge_reanchored(Judge(record), compare([1, 2], logits(1, 1e-6)))
    assert (record.ids, record.ties) == (2, 1)
    with pytest.raises(AssertionError, match="defect at id 1"):
        judge_reanchored(Judge(record), compare([1, 2], logits(1, 0.5)))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_correct_backend_has_no_defect(options):
    found = compare_utterances(Probed(Subject(), "onnx_cpu", V11, None), options, 12).found
    assert found.passed, found.lines()
    assert found.compared > 300


def test_a_subtle_fault_of_the_language_model_has_defects():
    ((_, count),) = counted(["language-model/one-layers-epsilon"], 20)
    assert isinstance(count, int), count
    assert count > 0


def test_generated_ids_are_a_command():
    arguments = ["--backend", "onnx_cpu", "--utterances", "2", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    assert [each["options"] for each in json.loads(result.stdout)] == list(OPTIONS)
