"""The fixture models load in `transformers` by its automatic classes, with the same outputs."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.backends import open_backend
from soprano.tokenizer import load_tokenizer

SENTENCE = "hello there, 25."


@pytest.mark.parametrize("model", fixture_models(), ids=lambda path: path.name)
def test_automatic_classes_of_transformers_read_a_fixture_model(model):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    prompt = load_tokenizer(model).prompt(SENTENCE)
    assert tokenizer(f"[STOP][TEXT]{SENTENCE}[START]").input_ids == prompt
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.inference_mode():
        theirs = network(torch.tensor([prompt]), output_hidden_states=True)
    ours = open_backend("pytorch", model).prefill(np.array([prompt]), np.array([len(prompt)]))
    for actual, expected in (
        (theirs.logits[0, -1], ours.logits[0]),
        (theirs.hidden_states[-1][0, -1], ours.hidden[0]),
    ):
        assert np.abs(actual.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_automatic_classes_of_transformers_read_the_texts_of_a_bundle(tmp_path, runtime):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    from soprano.export.bundle import export_bundle

    model = fixture_models()[0]
    bundle = export_bundle(model, tmp_path / "bundle", to=runtime, part="lm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle)
    assert tokenizer(f"[STOP][TEXT]{SENTENCE}[START]").input_ids == load_tokenizer(model).prompt(
        SENTENCE
    )
    config = transformers.AutoConfig.from_pretrained(bundle)
    assert config.soprano_decoder["n_fft"] == open_backend("pytorch", model).config.decoder.n_fft
