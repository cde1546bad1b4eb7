"""The comparison can fail: correct outputs agree, and each altered output is detected.

The outputs of soprano-tts are replaced by those of this project on a micro model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comparisons.agreement import checks, known_differences
from comparisons.agreement.compare_text import SENTENCES, Case, judge_text, read_cases, text_lines
from comparisons.agreement.known_differences import KnownDifference
from comparisons.agreement.peer_client import TextResult, Utterance
from comparisons.agreement.reference import Reference
from comparisons.agreement.table import Table
from conformance.golden.packs import fixture_models
from soprano.config import SamplingOptions
from soprano.text import normalize, sentences

WARM = SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2)
TEXTS = ["hello there", "yes, no"]


@pytest.fixture(scope="module")
def ours():
    return Reference(next(path for path in fixture_models() if path.name == "v11"))


@pytest.fixture(scope="module")
def greedy(ours):
    return [synthesize(ours, text, checks.GREEDY) for text in TEXTS]


@pytest.fixture(scope="module")
def warm(ours):
    return synthesize(ours, TEXTS[0], WARM)


def synthesize(ours, text, options):
    """What a correct program would have recorded."""
    prompt = ours.tokenizer.prompt(sentences(text)[0])
    ids = ours.generate(prompt, options)
    measured = ours.teacher_forced(prompt, ids)
    logits, hidden = measured["logits"].reference, measured["hidden"].reference
    probabilities = None
    if options.temperature:
        probabilities = checks.probabilities(logits, prompt, ids, options).astype(np.float32)
    utterance = Utterance(prompt, ids, logits, hidden, np.zeros(0, np.float32), probabilities)
    samples = ours.samples(utterance.audio_hidden(ours.stop)).reference
    return replace(utterance, samples=samples)


def passes(check, *arguments):
    """Whether the table passes with this check in it."""
    table = Table()
    with table.judging("subject", "case") as judge:
        check(judge, *arguments)
    return table.passed


def moved(values, amount):
    """The values with the middle element moved."""
    changed = values.copy()
    changed.flat[changed.size // 2] += amount
    return changed


def test_correct_floats_agree_and_altered_floats_do_not(ours, greedy):
    utterance = greedy[0]
    measured = ours.teacher_forced(utterance.prompt, utterance.ids)
    measured["samples"] = ours.samples(utterance.audio_hidden(ours.stop))
    for name, expected in measured.items():

        def agrees(values, name=name, expected=expected):
            return passes(checks.same_floats, name, values, expected, ours.config)

        values = getattr(utterance, name)
        assert agrees(values), name
        assert not agrees(moved(values, 1e-3)), name
        assert not agrees(np.roll(values, 1, axis=0)), name
        assert not agrees(values * np.float32(1.0001)), name


def test_ids_may_diverge_only_after_a_narrow_margin(greedy):
    utterance = greedy[0]
    ids, count = utterance.ids, len(utterance.ids)
    wide = [1.0] * count
    for index in (0, count // 2, count - 1):
        wrong = [*ids[:index], ids[index] + 1, *ids[index + 1 :]]
        narrow = [*wide[:index], 0.009, *wide[index + 1 :]]
        assert not passes(checks.same_ids, utterance, wrong, wide)
        assert passes(checks.same_ids, utterance, wrong, narrow) == (index > 0)
    assert passes(checks.same_ids, utterance, list(ids), wide)
    assert not passes(checks.same_ids, utterance, [*ids, 5], wide)
    assert not passes(checks.same_ids, utterance, ids[:-1], wide)


def test_greedy_margins_are_those_of_penalised_logits():
    logits = np.array([[2.0, 1.9, -1.0], [2.4, 1.9, -1.0]])
    margins = checks.greedy_margins(logits, [1], [0, 0])
    assert margins == pytest.approx([2 - 1.9 / 1.2, 2 - 1.9 / 1.2])


@pytest.mark.parametrize(
    "change",
    [{"top_k": 20}, {"top_p": 0.9}, {"temperature": 0.99}, {"repetition_penalty": 1.0}],
)
def test_probabilities_reveal_every_sampling_option(warm, change):
    assert passes(checks.same_distribution, warm, WARM)
    assert not passes(checks.same_distribution, warm, replace(WARM, **change))


def test_prompts_and_ids_must_be_equal():
    result, same = (TextResult("a b.", ["a b."], [[3, 1, 8, 2]]) for _ in range(2))
    assert passes(checks.same_text, result, same)
    assert not passes(checks.same_text, result, result._replace(sentences=["a", "b."]))
    assert not passes(checks.same_text, result, result._replace(prompts=[[3, 1, 8]]))


def test_a_correct_program_reproduces_no_known_difference(ours, greedy, warm):
    result = TextResult("", [], [greedy[0].prompt])
    differences = [
        known_differences.stream_shift(ours, TEXTS[0], greedy[0], greedy[0]),
        known_differences.random_at_zero(ours, [greedy[0]] * 3),
        known_differences.hidden_top_k(ours, [warm], [warm], WARM),
        known_differences.padded_batch(ours, TEXTS, greedy, greedy),
        known_differences.cut_prompt(ours, result, ["yes."]),
    ]
    assert [difference.name for difference in differences if difference.reproduced] == []
    table = Table()
    with table.judging("subject", "case") as judge:
        judge.equal("something", 1, 1)
    assert table.passed
    table.differences = differences[:1]
    assert not table.passed
    assert any("NOT REPRODUCED" in line for line in table.lines())


def test_a_shifted_stream_and_random_ids_are_detected(ours, greedy):
    utterance = greedy[0]
    late = replace(utterance, samples=utterance.samples[ours.config.decoder.samples_per_token :])
    assert known_differences.stream_shift(ours, TEXTS[0], utterance, late).reproduced
    other = replace(utterance, ids=[*utterance.ids[:-1], utterance.ids[-1] + 1])
    assert known_differences.random_at_zero(ours, [utterance, other]).reproduced


def test_text_needs_a_correct_list_of_differences_and_few_matters_of_taste():
    cases = [Case("kind", f"Sentence {word}.") for word in "abcdefgh" * 20]
    cases[0] = cases[0]._replace(difference="either", reason="of taste")
    cases[1] = cases[1]._replace(difference="theirs wrong", reason="of sense")
    same = [TextResult(normalize(case.text), sentences(case.text), []) for case in cases]
    other = TextResult("?", [], [])
    theirs = [other, other, *same[2:]]
    assert passes(judge_text, cases, same, theirs)
    assert not passes(judge_text, cases, same, [*theirs[:-1], other])
    assert not passes(judge_text, cases, same, [same[0], *theirs[1:]])
    taste = [case._replace(difference="either") for case in cases[:8]] + cases[8:]
    assert not passes(judge_text, taste, same, [other] * 8 + same[8:])
    lines = text_lines(cases, same, theirs)
    assert any("either: of taste" in line for line in lines)


def test_every_heading_of_the_corpus_is_a_kind_or_a_class_of_difference(tmp_path):
    cases = read_cases(SENTENCES)
    assert {case.difference for case in cases} == {"", "theirs wrong", "either"}
    (tmp_path / "wrong.txt").write_text("== kind | ours wrong: reason\nSentence.\n")
    with pytest.raises(SystemExit, match="unknown class"):
        read_cases(tmp_path / "wrong.txt")


def test_an_empty_table_does_not_pass():
    table = Table()
    assert not table.passed
    with table.judging("subject", "case"):
        pass
    assert not table.passed
    assert any("nothing was compared" in line for line in table.lines())
    assert not Table(differences=[KnownDifference("name", "theirs", "ours", True)]).passed
