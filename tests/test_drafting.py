"""GE and SY: drafts of scripted backends, and the drafts of voices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.packs import fixture_models
from conformance.golden.scripted_backend import STOP, VOCABULARY, ScriptedBackend, hidden_after
from conformance.hypothesis_profiles import examples
from soprano import SopranoTTS
from soprano.backends import Capabilities
from soprano.config import SamplingOptions
from soprano.errors import BackendError, ModelError
from soprano.export.bundle import export_bundle
from soprano.generate import Prompt

TEXT = "Hello there."
SAMPLINGS = st.sampled_from(
    [SamplingOptions(0.0, 1.0, 0, 1.2), SamplingOptions(1.0, 0.9, 0, 1.2), SamplingOptions(0.7)]
)


def numbers_of(ids):
    """Sixteen normal numbers that depend on all ids, the same in every process."""
    return np.random.default_rng([len(ids), *ids]).standard_normal(VOCABULARY)


def script(ids):
    logits = 3 * numbers_of(ids)
    logits[STOP] -= 6
    return logits


def draft_script(agreement):
    """A script with the same logits at a fraction of all places, elsewhere with opposite ones."""

    def drafted(ids):
        agrees = np.random.default_rng([7, len(ids), *ids]).random() < agreement
        return script(ids) if agrees else -script(ids)

    return drafted


def verifying(script):
    return ScriptedBackend(script, Capabilities(verify=True))


@pytest.fixture(scope="session")
def run(stages_over):
    """(draft or None, prompts, options) -> the tokens of each prompt, and the backend."""

    def tokens(draft, prompts, **options):
        backend = verifying(script)
        stages = replace(stages_over(backend), draft=draft)
        given = [
            Prompt([STOP, 1, *ids, 2], iter(draws_of(number)), sampling, limit)
            for number, (ids, sampling, limit) in enumerate(prompts)
        ]
        found = [[] for _ in prompts]
        for token in stages.generate(stages, given, **options):
            found[token.prompt].append(token)
        return found, backend

    return tokens


def draws_of(number):
    return np.random.default_rng([3, number]).random(600).tolist()


def described(tokens):
    return [(t.id, None if t.hidden is None else t.hidden.tolist(), t.finish) for t in tokens]


@pytest.mark.requirement("GE-20")
@examples(60)
@given(
    prompts=st.lists(
        st.tuples(st.lists(st.integers(4, 15), max_size=5), SAMPLINGS, st.integers(1, 60)),
        min_size=1,
        max_size=4,
    ),
    agreement=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    batch_size=st.integers(1, 4),
    rows=st.integers(1, 4),
)
def test_a_draft_changes_nothing(judge, run, prompts, agreement, batch_size, rows):
    plain, _ = run(None, prompts, batch_size=batch_size)
    draft = verifying(draft_script(agreement))
    drafted, _ = run(draft, prompts, batch_size=batch_size, drafted_rows=rows)
    for number, (actual, expected) in enumerate(zip(drafted, plain, strict=True)):
        judge.equal(f"tokens of {number}", described(actual), described(expected))


@pytest.mark.requirement("GE-20")
def test_each_hidden_state_is_the_one_that_predicted_its_token(judge, run):
    prompts = [([5, 6], SamplingOptions(0.0), 80)]
    tokens, _ = run(verifying(draft_script(0.9)), prompts)
    ids, prompt = [token.id for token in tokens[0]], (STOP, 1, 5, 6, 2)
    for place, token in enumerate(tokens[0][:-1]):
        expected = hidden_after((*prompt, *ids[:place]))
        judge.equal(f"state {place}", token.hidden.tolist(), expected.tolist())


@pytest.mark.requirement("GE-21")
def test_a_draft_that_agrees_leaves_few_passes(judge, run):
    prompts = [([number], SamplingOptions(1.0, 0.9, 0, 1.0), 200) for number in range(4, 10)]
    plain, slow = run(None, prompts)
    _, fast = run(verifying(script), prompts)
    count = sum(map(len, plain))
    judge.equal("enough tokens", count > 300, True)
    judge.equal("passes without", len(slow.batch_sizes), count)
    judge.equal("passes with", len(fast.batch_sizes) < count / 4, True)


@pytest.mark.requirement("GE-21")
def test_a_draft_that_never_agrees_is_left_out(judge, run):
    prompts = [([number], SamplingOptions(1.0, 0.9, 0, 1.0), 200) for number in range(4, 10)]
    draft = verifying(draft_script(0.0))
    plain, slow = run(None, prompts)
    _, with_draft = run(draft, prompts)
    judge.equal("passes", len(with_draft.batch_sizes), len(slow.batch_sizes))
    judge.equal("calls of the draft", len(draft.batch_sizes) <= 3 * len(prompts), True)
    judge.equal("enough tokens", sum(map(len, plain)) > 300, True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle that contains its draft."""
    folder = tmp_path_factory.mktemp("bundle") / "model"
    model = next(path for path in fixture_models() if path.name == "v11")
    export_bundle(model, folder)
    export_bundle(model, folder / "draft", precision="int8", part="lm")
    return folder


@pytest.mark.requirement("SY-24")
def test_a_voice_uses_the_draft_that_is_named_or_that_its_folder_contains(judge, bundle):
    options = {"temperature": 0.7, "seed": 3, "max_new_tokens": 24}
    plain = SopranoTTS(bundle, "onnx_cpu", draft="none")
    judge.equal("no draft", plain.stages.draft is None, True)
    expected = plain.infer(TEXT, **options)
    named = {"own": None, "class": "int8", "folder": bundle / "draft", "made": "int4"}
    for name, draft in named.items():
        voice = SopranoTTS(bundle, "onnx_cpu", draft=draft)
        precision = "int4" if name == "made" else "int8"
        judge.equal(f"{name}: class", voice.stages.draft.capabilities.precision, precision)
        audio = voice.infer(TEXT, **options)
        judge.equal(f"{name}: ids", audio.sentences[0].token_ids, expected.sentences[0].token_ids)


@pytest.mark.requirement("SY-24")
def test_a_draft_that_cannot_be_used_is_an_error(judge, bundle):
    def opened(draft, backend="onnx_cpu"):
        return SopranoTTS(bundle, backend, draft=draft)

    other = next(path for path in fixture_models() if path.name == "n600")
    for name, call, error in (
        ("another model", lambda: opened(other), ModelError),
        ("no folder", lambda: opened("int7"), ModelError),
        ("without quantised bundles", lambda: opened("int4", "pytorch"), BackendError),
    ):
        judge.refuses(name, call, error, accepts=lambda: opened("int8"))
