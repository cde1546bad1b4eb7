"""Faults of reading and writing model folders."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import FOLDER, fault
from conformance.faults.plant import Plant
from soprano.checkpoint import config_json as configfile
from soprano.checkpoint import folder as model
from soprano.checkpoint import tensors as weights


def parsed(plant: Plant, change: Any) -> None:
    """The language model's numbers are read, and one of them is put aside."""
    from dataclasses import replace

    parse = configfile.parse_language_model

    def faulty(document: Any) -> Any:
        found = parse(document)
        return replace(found, **change(found))

    plant.replace(parse, faulty)


@fault("KV-17", FOLDER, hard=True, model="heads", blame=("CK", "LM"))
def head_width_taken_from_hidden(plant: Plant) -> None:
    """The width of a head is hidden / heads, which the published sizes cannot refute."""
    parsed(plant, lambda c: {"head_dim": c.hidden_size // c.num_attention_heads})


@fault("KV-18", FOLDER, blame=("CK", "LM", "SY"))
def end_of_sequence_assumed(plant: Plant) -> None:
    """The id that ends an utterance is taken to be 2, as in other families."""
    parsed(plant, lambda c: {"eos_token_id": 2})


@fault("CK-50", FOLDER, hard=True, model="n600", blame=("CK", "LM", "DE"))
def hop_not_read(plant: Plant) -> None:
    """The hop is derived as a quarter of the window instead of read from the config."""
    from dataclasses import replace

    parse = configfile.parse_decoder

    def faulty(document: Any, shapes: Any) -> Any:
        found = parse(document, shapes)
        return replace(found, hop_length=found.win_length // 4)

    plant.replace(parse, faulty)


@fault("CK-51", FOLDER, hard=True, blame=("CK",))
def bfloat16_rounded_on_the_way(plant: Plant) -> None:
    """Tensors in bfloat16 pass through half precision, where large and small values are lost."""
    read = weights.Tensor.read

    def faulty(tensor: Any) -> Any:
        values = read(tensor)
        if tensor.dtype != "BF16":
            return values
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)

    plant.set(weights.Tensor, "read", faulty)


@fault("CK-52", FOLDER, hard=True, blame=("CK",))
def pickled_decoder_preferred(plant: Plant) -> None:
    """Where both files are, the older decoder.pth is read."""
    inner = model.ModelFolder.decoder_weights

    def faulty(folder: Any) -> Any:
        found = inner(folder)
        if (folder.path / "decoder.pth").exists():
            found = {k: v for k, v in folder._decoder_pth.items() if not k.endswith("window")}
        return found

    plant.set(model.ModelFolder, "decoder_weights", faulty)


@fault("CK-53", FOLDER, hard=True, blame=("CK",))
def unknown_keys_passed_over(plant: Plant) -> None:
    """Keys that are not understood are left aside, whatever they ask for."""
    parse = configfile.parse_language_model
    names = {*configfile.LanguageModelConfig.__dataclass_fields__, *configfile._FIXED}
    names |= {*configfile._IGNORED, *configfile._ROPE_KEYS, "layer_types", "decoder"}
    names |= {"rope_parameters", "rope_scaling"}
    plant.replace(parse, lambda given: parse({k: v for k, v in given.items() if k in names}))


@fault("CK-54", FOLDER, hard=True, blame=("CK",))
def shapes_not_looked_at(plant: Plant) -> None:
    """A tensor of another shape than the config's is taken as long as its name is known."""
    from soprano.checkpoint import tensors as layout

    inner = layout.require_shapes
    plant.replace(
        inner,
        lambda where, found, wanted: inner(
            where, {name: wanted.get(name, shape) for name, shape in found.items()}, wanted
        ),
    )


@fault("EX-50", FOLDER, blame=("EX", "LM", "CA"))
def batch_of_one_baked_in(plant: Plant) -> None:
    """The exporter traced one row, and the graph has its batch as a constant."""
    from soprano.onnx_graphs.writer import Graph

    inner = Graph.input

    def faulty(g: Any, name: str, kind: Any, shape: Any) -> str:
        return inner(g, name, kind, [1 if size == "batch" else size for size in shape])

    plant.set(Graph, "input", faulty)


@fault("EX-51", FOLDER, hard=True, blame=("EX",))
def manifest_bears_the_time(plant: Plant) -> None:
    """The manifest says when it was written, so that no second export gives the same bytes."""
    import time

    from soprano.export import bundle

    write = bundle._write_json

    def faulty(path: Any, document: Any) -> None:
        stamp = {"created": time.time_ns()} if path.name == "manifest.json" else {}
        write(path, {**document, **stamp})

    plant.set(bundle, "_write_json", faulty)


@fault("EX-52", FOLDER, hard=True, blame=("EX",))
def failed_export_leaves_half_a_bundle(plant: Plant) -> None:
    """Files are written where they are to stay, and what was written stays after an error."""
    from contextlib import contextmanager

    from soprano.export import bundle

    @contextmanager
    def staged(target: Any, origin: Any) -> Any:
        if target.exists():
            bundle._require_same_model(target, origin)
        target.mkdir(parents=True, exist_ok=True)
        yield target

    plant.set(bundle, "_staged", staged)
