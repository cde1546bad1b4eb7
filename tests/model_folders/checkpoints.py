"""Checkpoint folders that the tests write."""

import json

from conformance.golden.packs import fixture_models
from soprano.checkpoint.folder import ModelFolder

SOURCE = next(path for path in fixture_models() if path.name == "v11")
SIGNAL = {"sample_rate": 24000, "n_fft": 62, "hop_length": 16, "win_length": 62}


def read_config():
    return json.loads((SOURCE / "config.json").read_text(encoding="utf-8"))


def change_config(folder, **changes):
    """Change keys of a folder's `config.json`."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")


def decoder_shapes(input_size, dim, layers, kernel, outputs):
    """The shapes of the tensors of a decoder from which its config is inferred."""
    shapes = {
        "decoder.embed.weight": (dim, input_size, kernel),
        "head.out.weight": (outputs, dim),
    }
    for layer in range(layers):
        shapes[f"decoder.convnext.{layer}.pwconv1.weight"] = (3 * dim, dim)
        shapes[f"decoder.convnext.{layer}.dwconv.weight"] = (dim, 1, 3)
    return shapes


def read_weights(path):
    """The weights of both networks, by name."""
    folder = ModelFolder.open(path)
    return folder.language_model_weights(), folder.decoder_weights()


def judge_weights(judge, actual, expected):
    judge.equal("names", sorted(actual), sorted(expected))
    for name, values in actual.items():
        judge.bits(name, values, expected[name])
