"""The comparison with other programs can fail: an honest one agrees, each planted fault is seen.

The other program is played by this project on a micro model, so nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from comparisons.agreement import agreement, divergences
from comparisons.agreement.compare_text import DIFFERENCES, Case, judge_text
from comparisons.agreement.observe import ReadText, Utterance
from comparisons.agreement.ours import Ours
from comparisons.agreement.table import Divergence, Table
from conformance.golden.packs import fixture_models
from soprano.config import SamplingOptions
from soprano.sampling import distribution, penalize
from soprano.text import normalize, sentences

WARM = SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2)
TEXTS = ["hello there", "yes, no"]


@pytest.fixture(scope="module")
def ours() -> Ours:
    return Ours(next(path for path in fixture_models() if path.name == "v11"))


@pytest.fixture(scope="module")
def spoken(ours: Ours) -> list[Utterance]:
    """What an honest program would have written down."""
    return [speak(ours, text, agreement.GREEDY) for text in TEXTS]


@pytest.fixture(scope="module")
def warm(ours: Ours) -> Utterance:
    return speak(ours, TEXTS[0], WARM)


def speak(ours: Ours, text: str, options: SamplingOptions) -> Utterance:
    prompt = ours.voice.tokenizer.prompt(sentences(text)[0])
    drawn = ours.speak(prompt, options)
    measured = ours.read(prompt, drawn)
    said = Utterance(
        prompt,
        drawn,
        measured["logits"].reference,
        measured["hidden"].reference,
        np.zeros(0, np.float32),
        probabilities(measured["logits"].reference, prompt, drawn, options),
    )
    return replace(said, samples=ours.sound(said.spoken(ours.stop)).reference)


def probabilities(
    logits: np.ndarray, prompt: list[int], drawn: list[int], options: SamplingOptions
) -> np.ndarray | None:
    if not options.temperature:
        return None
    rows = [
        distribution(penalize(row, prompt + drawn[:step], options.repetition_penalty), options)
        for step, row in enumerate(logits)
    ]
    return np.stack(rows).astype(np.float32)


def holds(claim: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the table stays good with this claim in it."""
    table = Table()
    with table.judging("subject", "case") as judge:
        claim(judge, *arguments)
    return table.good


def moved(values: np.ndarray, amount: float) -> np.ndarray:
    """One element in the middle moved."""
    changed = values.copy()
    changed.flat[changed.size // 2] += amount
    return changed


def test_floats_of_an_honest_program_agree_and_one_moved_element_does_not(ours, spoken):
    said = spoken[0]
    measured = ours.read(said.prompt, said.drawn)
    measured["samples"] = ours.sound(said.spoken(ours.stop))
    theirs = {"logits": said.logits, "hidden": said.hidden, "samples": said.samples}
    for name, values in theirs.items():

        def held(given: np.ndarray, name: str = name) -> bool:
            return holds(agreement.same_numbers, name, given, measured[name], ours.config)

        assert held(values), name
        assert not held(moved(values, 1e-3)), name
        assert not held(np.roll(values, 1, axis=0)), name
        assert not held(values * np.float32(1.0001)), name


def test_ids_part_only_behind_a_narrow_gap(ours, spoken):
    said = spoken[0]
    count = len(said.drawn)
    wide = [1.0] * count
    for place in (0, count // 2, count - 1):
        wrong = [*said.drawn[:place], said.drawn[place] + 1, *said.drawn[place + 1 :]]
        narrow = [*wide[:place], 0.009, *wide[place + 1 :]]
        assert not holds(agreement.same_ids, said, wrong, wide)
        assert holds(agreement.same_ids, said, wrong, narrow) == (place > 0)
    assert holds(agreement.same_ids, said, said.drawn, wide)
    assert not holds(agreement.same_ids, said, [*said.drawn, 5], wide)
    assert not holds(agreement.same_ids, said, said.drawn[:-1], wide)


def test_gaps_are_those_of_penalised_scores(ours, spoken):
    logits = np.array([[2.0, 1.9, -1.0], [2.4, 1.9, -1.0]])
    assert agreement.gaps(logits, [1], [0, 0]) == pytest.approx([2 - 1.9 / 1.2, 2 - 1.9 / 1.2])


def test_probabilities_tell_every_option(ours, warm):
    assert holds(agreement.same_distribution, warm, WARM)
    for change in (
        {"top_k": 20},
        {"top_p": 0.9},
        {"temperature": 0.99},
        {"repetition_penalty": 1.0},
    ):
        assert not holds(agreement.same_distribution, warm, replace(WARM, **change)), change


def test_prompts_and_ids_must_be_equal():
    read, same = (ReadText("a b.", ["a b."], [[3, 1, 8, 2]]) for _ in range(2))
    assert holds(agreement.same_text, read, same)
    assert not holds(agreement.same_text, read, read._replace(pieces=["a", "b."]))
    assert not holds(agreement.same_text, read, read._replace(ids=[[3, 1, 8]]))


def test_no_divergence_is_shown_by_a_program_without_it(ours, spoken, warm):
    prompt = spoken[0].prompt
    read = ReadText("", [], [prompt])
    shown = [
        divergences.stream_shift(ours, TEXTS[0], spoken[0], spoken[0]),
        divergences.random_at_zero(ours, [spoken[0]] * 3),
        divergences.hidden_top_k(ours, [warm], [warm], WARM),
        divergences.padded_batch(ours, TEXTS, spoken, spoken),
        divergences.cut_prompt(ours, read, ["yes."]),
    ]
    assert [divergence.name for divergence in shown if divergence.shown] == []
    table = Table()
    with table.judging("subject", "case") as judge:
        judge.equal("something", 1, 1)
    assert table.good
    table.divergences = shown[:1]
    assert not table.good
    assert any("NOT SHOWN" in line for line in table.lines())


def test_the_shift_and_the_lot_are_seen(ours, spoken):
    said = spoken[0]
    late = replace(said, samples=said.samples[ours.config.decoder.samples_per_token :])
    assert divergences.stream_shift(ours, TEXTS[0], said, late).shown
    other = replace(said, drawn=[*said.drawn[:-1], said.drawn[-1] + 1])
    assert divergences.random_at_zero(ours, [said, other]).shown


def test_text_needs_97_percent_and_a_list_that_is_true():
    listed = [written for texts in DIFFERENCES.values() for written in texts]
    plain = [f"Sentence {word}." for word in "abcdefgh"] * 200
    cases = [Case("kind", text) for text in (*listed, *plain)]
    same = [ReadText(normalize(case.text), sentences(case.text), []) for case in cases]
    theirs = [answer._replace(normalized="?") for answer in same[: len(listed)]]
    theirs += same[len(listed) :]
    assert holds(judge_text, cases, same, theirs)
    assert not holds(judge_text, cases, same, [*theirs[:-1], ReadText("?", [], [])])
    assert not holds(judge_text, cases, same, [same[0], *theirs[1:]])
    few = len(listed) + 100
    assert not holds(judge_text, cases[:few], same[:few], theirs[:few])


def test_a_table_of_nothing_is_not_good():
    table = Table()
    assert not table.good
    with table.judging("subject", "case"):
        pass
    assert not table.good
    assert any("nothing was compared" in line for line in table.lines())
    shown = Table(divergences=[Divergence("name", "theirs", "ours", True)])
    assert not shown.good
