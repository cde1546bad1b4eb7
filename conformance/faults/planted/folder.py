"""Faults of reading and writing model folders."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.faults.fault import FOLDER, fault
from conformance.faults.network_hooks import patch
from conformance.subject import Subject
from soprano.checkpoint import config_json, contents, folder, tensors
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError


def change_parsed(parser: str, change: Callable[..., dict[str, Any]]) -> None:
    """`change(config, document)` gives other values of what is read from config.json."""
    parse = getattr(config_json, parser)

    def faulty(document: Any, *arguments: Any) -> Any:
        config = parse(document, *arguments)
        return replace(config, **change(config, document))

    patch(parser, faulty, config_json, folder)


@fault(FOLDER, "CK-13", hard=True, model="heads", blame=("CK", "LM"), public=True)
def head_width_taken_from_hidden(subject: Subject) -> Subject:
    """The width of a head is hidden / heads, which is right for the published sizes only."""
    change_parsed(
        "parse_language_model",
        lambda config, document: {"head_dim": config.hidden_size // config.num_attention_heads},
    )
    return subject


@fault(FOLDER, "CK-13", blame=("CK", "LM", "SY"), public=True)
def end_of_sequence_assumed(subject: Subject) -> Subject:
    """The id that ends an utterance is assumed to be 2, as in other families."""
    change_parsed("parse_language_model", lambda config, document: {"eos_token_id": 2})
    return subject


@fault(FOLDER, "CK-13", hard=True, model="n600", blame=("CK", "LM", "DE"))
def hop_not_read(subject: Subject) -> Subject:
    """The hop is a quarter of the window instead of the config's."""
    change_parsed("parse_decoder", lambda config, document: {"hop_length": config.win_length // 4})
    return subject


@fault(FOLDER, "CK-03", blame=("CK",), public=True)
def signal_numbers_guessed(subject: Subject) -> Subject:
    """Where the config has no signal parameters, those of another vocoder are assumed."""
    guessed = {"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "win_length": 1024}
    change_parsed(
        "parse_decoder",
        lambda config, document: {} if config_json.DECODER_KEY in document else guessed,
    )
    return subject


@fault(FOLDER, "CK-05", blame=("CK",), public=True)
def geometry_by_folder_name(subject: Subject) -> Subject:
    """The generation of the decoder is guessed from the folder's name."""
    measured = ModelFolder.config.func  # type: ignore[attr-defined]

    def config(folder: ModelFolder) -> Any:
        read = measured(folder)
        kernel = 3 if "1.0" in folder.path.name else read.decoder.input_kernel_size
        return replace(read, decoder=replace(read.decoder, input_kernel_size=kernel))

    patch("config", property(config), ModelFolder)
    return subject


@fault(FOLDER, "CK-07", hard=True, blame=("CK",))
def bfloat16_rounded_on_the_way(subject: Subject) -> Subject:
    """Tensors in bfloat16 pass through half precision, which loses large and small values."""
    read = tensors.Tensor.read

    def faulty(tensor: Any) -> Any:
        values = read(tensor)
        if tensor.dtype != "BF16":
            return values
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)

    patch("read", faulty, tensors.Tensor)
    return subject


@fault(FOLDER, "CK-08", hard=True, blame=("CK",))
def pickled_decoder_preferred(subject: Subject) -> Subject:
    """In a folder with both files, the older decoder.pth is read."""
    read = ModelFolder.decoder_weights

    def faulty(folder: ModelFolder) -> Any:
        if not (folder.path / "decoder.pth").exists():
            return read(folder)
        from soprano.checkpoint.pickled import read_state_dict

        pickled = read_state_dict(folder.path / "decoder.pth")
        return {name: values for name, values in pickled.items() if not name.endswith("window")}

    patch("decoder_weights", faulty, ModelFolder)
    return subject


@fault(FOLDER, "CK-02", hard=True, blame=("CK",))
def unknown_keys_passed_over(subject: Subject) -> Subject:
    """Keys that are not understood are ignored, whatever they mean."""
    parse = config_json.parse_language_model

    def lenient(document: Any) -> Any:
        try:
            return parse(document)
        except ModelError as error:
            unknown = re.search(r"unknown key '(\w+)'", str(error))
            if not unknown or unknown[1] not in document:
                raise
            return lenient({key: document[key] for key in document if key != unknown[1]})

    patch("parse_language_model", lenient, config_json, folder)
    return subject


@fault(FOLDER, "CK-14", hard=True, blame=("CK",), public=True)
def missing_decoder_blamed_on_the_config(subject: Subject) -> Subject:
    """A folder without the decoder's weights is reported as an incomplete config.json."""
    patch("states_whole_decoder", lambda document: True, folder)
    return subject


@fault(FOLDER, "CK-14", hard=True, blame=("CK",), public=True)
def pointers_and_pages_taken_for_weights(subject: Subject) -> Subject:
    """Pointers of Git LFS and HTML pages are reported as damaged files of the expected form."""
    patch("describe", lambda path: None, contents)
    return subject


@fault(FOLDER, "CK-15", hard=True, blame=("CK",), public=True)
def keys_of_tools_rejected(subject: Subject) -> Subject:
    """Every key is rejected that is not one of the model's library, whatever its meaning."""
    patch("BOOKKEEPING", re.compile("(?!)"), config_json)
    return subject


@fault(FOLDER, "CK-16", hard=True, blame=("CK",), public=True)
def parameters_of_the_default_type(subject: Subject) -> Subject:
    """Networks are built in PyTorch's default type and on its default device."""
    try:
        import torch

        from soprano.reference import load
    except ImportError:
        return subject

    def faulty(build: Any, weights: Any) -> Any:
        network = build()
        network.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
        return network.eval().requires_grad_(False)

    patch("load_network", faulty, load)
    return subject


@fault(FOLDER, "CK-11", hard=True, blame=("CK",))
def shapes_not_looked_at(subject: Subject) -> Subject:
    """A tensor of another shape than the config's is accepted if its name is known."""
    require = tensors.require_shapes

    def by_name(where: Path, found: Any, wanted: Any) -> None:
        require(where, {name: wanted.get(name, shape) for name, shape in found.items()}, wanted)

    patch("require_shapes", by_name, tensors, folder)
    return subject


@fault(FOLDER, "EX-01", blame=("CK", "EX", "LM", "CA"))
def batch_of_one_baked_in(subject: Subject) -> Subject:
    """The exporter traced a batch of one, and the graph has this size as a constant."""
    from soprano.onnx_graphs.writer import Graph

    declare = Graph.input

    def faulty(g: Any, name: str, kind: Any, shape: Any) -> str:
        return declare(g, name, kind, [1 if size == "batch" else size for size in shape])

    patch("input", faulty, Graph)
    return subject


@fault(FOLDER, "EX-02", hard=True, blame=("CK", "EX"))
def manifest_bears_the_time(subject: Subject) -> Subject:
    """The manifest contains the time of the export, so that no two exports are equal."""
    from soprano.export import bundle

    export = bundle.export_bundle

    def stamped(*arguments: Any, **options: Any) -> Path:
        folder = export(*arguments, **options)
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        manifest["created"] = time.time_ns()
        (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        return folder

    patch("export_bundle", stamped, bundle)
    return subject


@fault(FOLDER, "EX-07", hard=True, blame=("EX",))
def failed_export_leaves_half_a_bundle(subject: Subject) -> Subject:
    """Files are written to their final folder, and stay there after an error."""
    from soprano.export import bundle

    export = bundle.export_bundle

    def unstaged(model: Any, out: Any, **options: Any) -> Path:
        try:
            return export(model, out, **options)
        except ModelError:
            if not Path(out).exists():
                Path(out).mkdir(parents=True)
                (Path(out) / "config.json").write_text("{}", "utf-8")
            raise

    patch("export_bundle", unstaged, bundle)
    return subject


@fault(FOLDER, "EX-08", blame=("EX",), public=True)
def half_precision_only_by_name(subject: Subject) -> Subject:
    """A bundle's class is half precision, and its weights are stored in float32."""
    from soprano.export import bundle

    save = bundle.save_file

    def save_wide(weights: dict[str, Any], path: Any) -> None:
        save({name: values.astype(np.float32) for name, values in weights.items()}, path)

    patch("save_file", save_wide, bundle)
    return subject


@fault(FOLDER, "EX-13", hard=True, blame=("CK", "EX"), public=True)
def manifest_not_compared(subject: Subject) -> Subject:
    """A bundle is opened whatever its manifest lists."""
    patch("require_unchanged", lambda *arguments, **options: None, folder)
    return subject


@fault(FOLDER, "EX-14", hard=True, blame=("CK", "EX"), public=True)
def references_of_graphs_passed_on(subject: Subject) -> Subject:
    """The locations of external data are given to the runtime as the graph states them."""
    from soprano.onnx_graphs import source

    patch("require_sound", lambda *arguments: None, source)
    return subject


@fault(FOLDER, "CK-21", hard=True, blame=("CK",), public=True)
def weights_not_looked_at(subject: Subject) -> Subject:
    """Weights that are NaN or Inf are loaded, and make every sample NaN."""
    patch("require_finite", lambda *arguments: None, folder)
    return subject


@fault(FOLDER, "EX-15", hard=True, blame=("EX",))
def exporters_without_a_lock(subject: Subject) -> Subject:
    """Two processes that export to one folder write at the same time."""
    from soprano.export import replace as replacement

    patch("locked", lambda target: nullcontext(), replacement)
    return subject
