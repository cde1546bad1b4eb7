"""The fixture models and exported bundles as other programs read them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from conformance.golden.packs import fixture_models, fixtures_folder
from soprano.checkpoint.folder import ModelFolder

MODELS = fixture_models()
# Keys in which transformers expects the config of a nested model.
RESERVED = {
    "audio_config", "audio_encoder", "decoder", "encoder", "generator", "llm_config",
    "sub_configs", "text_config", "text_encoder", "thinker_config", "vision_config",
}  # fmt: skip


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def assert_readable_by_transformers(folder):
    """The classes are named in the config, and no key has another meaning there."""
    config, tokenizer = read(folder, "config.json"), read(folder, "tokenizer_config.json")
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["model_type"] == "qwen3"
    assert not set(config) & RESERVED
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (tokenizer["eos_token"], tokenizer["unk_token"]) == ("[STOP]", "[UNK]")


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_fixture_models_name_what_transformers_needs(model):
    assert_readable_by_transformers(model)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_exported_bundles_name_what_transformers_needs(tmp_path, runtime):
    """Also where the checkpoint has the older name of the decoder's object."""
    from soprano.export.bundle import export_bundle

    for model in MODELS[:2]:
        source = tmp_path / f"source {model.name}"
        source.mkdir()
        for path in model.iterdir():
            (source / path.name).write_bytes(path.read_bytes())
        config = read(model, "config.json")
        config["decoder"] = config.pop("soprano_decoder")
        (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
        bundle = export_bundle(source, tmp_path / model.name, to=runtime, part="lm")
        assert_readable_by_transformers(bundle)
        assert ModelFolder.open(bundle).config == ModelFolder.open(model).config


def test_nano_suits_16_bit_samples_and_the_detection_of_stuck_utterances():
    """No sample of its golden utterances is clipped, and hidden states are near and far."""
    model = next(path for path in MODELS if path.name == "nano")
    arrays = load_file(fixtures_folder() / "golden" / "nano.safetensors")
    distance = ModelFolder.open(model).generation_defaults.hallucination_distance
    for run in ("greedy", "sampled"):
        assert 0.1 < np.abs(arrays[f"{run} samples"]).max() < 1
        steps = np.abs(np.diff(arrays[f"{run} hidden"], axis=0)).sum(axis=1)
        assert steps.min() < distance < steps.max()
        assert np.abs(steps / distance - 1).min() > 1e-3  # rounding decides nothing
