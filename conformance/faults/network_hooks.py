"""Faults inside networks, checkpoints and exports are planted through these hooks.

A network is no value that could be replaced: the hooks change functions and classes of this
process, which ends after one fault. They use public names only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.plant import Float32, with_backend
from conformance.subject import Subject
from soprano.backends import Backend

GRAPHS = ("onnx_cpu", "openvino_cpu")  # backends that run the exporter's graph
# Those that compute in the types that a graph names; OpenVINO computes in float32 throughout.
TYPED_GRAPHS = ("onnx_cpu",)

Inputs = Sequence[str]
Change = Callable[[Any, str, Inputs, dict[str, Any]], tuple[str, Inputs, dict[str, Any]]]


def patch(name: str, value: Any, *owners: Any) -> None:
    """Set an attribute of modules or classes; all of them must have it."""
    for owner in owners:
        getattr(owner, name)
        setattr(owner, name, value)


def with_standard_networks(subject: Subject) -> Subject:
    """Each runtime runs the unfused network with a dynamic KV cache, the form of most ports.

    The fused operators of ONNX Runtime leave no nodes to change and no cache to reach, and the
    packed matrices in PyTorch leave no modules.
    """

    def open_backend(
        name: str, model: Any, precision: str = "fp32", threads: int | None = None
    ) -> Backend:
        from soprano.checkpoint.folder import ModelFolder

        if name == "onnx_cpu":
            from soprano.backends.onnx_standard import StandardOnnxBackend as Standard
        elif name == "pytorch":
            from soprano.backends.pytorch_reference import PyTorchReferenceBackend as Standard
        else:
            return subject.open_backend(name, model, precision, threads)
        return Standard(ModelFolder.open(model), precision=precision, threads=threads)

    return replace(subject, open_backend=open_backend)


def with_cache(subject: Subject, policy: Callable[[], Any]) -> Subject:
    """Replace the KV-cache policy, a `DynamicCache`."""

    def changed(backend: Any) -> Any:
        backend.cache = policy()
        return backend

    return with_backend(with_standard_networks(subject), changed)


def with_nodes(subject: Subject, matches: Callable[[str, str], bool], change: Change) -> Subject:
    """Change nodes of the ONNX graphs while they are written.

    Args:
        matches: whether a node of this kind and name is changed.
        change: `(graph, kind, inputs, attributes)` -> the new kind, inputs and attributes; it may
            write other nodes first.
    """
    from soprano.onnx_graphs.writer import Graph

    write = Graph.split

    def split(g: Any, kind: str, *inputs: str, name: str, count: int, **attributes: Any) -> Any:
        if matches(kind, name):
            kind, changed, attributes = change(g, kind, inputs, attributes)
            return write(g, kind, *changed, name=name, count=count, **attributes)
        return write(g, kind, *inputs, name=name, count=count, **attributes)

    patch("split", split, Graph)
    return with_standard_networks(subject)


def with_attributes(subject: Subject, node: str, **attributes: Any) -> Subject:
    """Change attributes of the one node of this name."""
    return with_nodes(
        subject,
        lambda kind, name: name == node,
        lambda g, kind, inputs, own: (kind, inputs, {**own, **attributes}),
    )


def with_rounded_input(subject: Subject, matches: Callable[[str, str], bool]) -> Subject:
    """The first input of the matching nodes is rounded to half precision."""

    def change(g: Any, kind: str, inputs: Inputs, attributes: Any) -> Any:
        from onnx import TensorProto

        serial = len(g.nodes)
        narrow = g.op("Cast", inputs[0], name=f"narrow{serial}", to=TensorProto.FLOAT16)
        wide = g.op("Cast", narrow, name=f"wide{serial}", to=TensorProto.FLOAT)
        return kind, (wide, *inputs[1:]), attributes

    return with_nodes(subject, matches, change)


def with_weights(subject: Subject, change: Callable[[str, Float32], Float32]) -> Subject:
    """Change tensors, by name, as every network reads them."""
    from onnx import numpy_helper

    from soprano.checkpoint.folder import ModelFolder
    from soprano.onnx_graphs.writer import Graph

    def stored_weight(g: Any, name: str) -> str:
        source = g.weights[name]
        values = source.read() if hasattr(source, "read") else source
        changed = np.ascontiguousarray(change(name, values), np.float32)
        g.initializers.setdefault(name, numpy_helper.from_array(changed, name))
        return name

    patch("stored_weight", stored_weight, Graph)
    for method in ("language_model_weights", "decoder_weights"):
        read = getattr(ModelFolder, method)

        def faulty(folder: Any, read: Any = read) -> dict[str, Float32]:
            return {name: change(name, values) for name, values in read(folder).items()}

        patch(method, faulty, ModelFolder)
    return subject


def with_modules(subject: Subject, change: Callable[[Any], None]) -> Subject:
    """Change the PyTorch networks, where PyTorch is installed, as they are loaded."""
    try:
        from soprano.backends import pytorch, pytorch_common, pytorch_reference
    except ImportError:
        return subject
    for name, owners in (
        ("load_language_model", (pytorch, pytorch_reference)),
        ("load_decoder", (pytorch_common,)),
    ):
        load = getattr(owners[0], name)

        def faulty(folder: Any, load: Any = load) -> Any:
            network = load(folder)
            change(network)
            return network

        patch(name, faulty, *owners)
    return subject


def with_module(subject: Subject, name: str, change: Callable[[Any], Any]) -> Subject:
    """Change one module of the PyTorch networks, by its name there."""

    def changed(network: Any) -> None:
        modules = dict(network.named_modules())
        if name in modules:
            change(modules[name])

    return with_modules(subject, changed)


def with_layers(subject: Subject, change: Callable[[int, Any], Any]) -> Subject:
    """`change(index, layer)` on every layer of the PyTorch language model."""

    def changed(network: Any) -> None:
        for index, layer in enumerate(getattr(getattr(network, "model", None), "layers", ())):
            change(index, layer)

    return with_modules(subject, changed)


def with_rms_norm(subject: Subject, change: Callable[..., str]) -> Subject:
    """`change(norm, graph, x, module, config)` in place of each RMSNorm of the ONNX graph."""
    from soprano.onnx_graphs import language_model as exporter

    norm = exporter.rms_norm
    patch("rms_norm", lambda *arguments: change(norm, *arguments), exporter)
    return with_standard_networks(subject)


def with_config(subject: Subject, **values: Any) -> Subject:
    """Build the language model's networks with another config than the folder's."""
    from soprano.onnx_graphs import language_model as exporter

    graph = exporter.language_model_graph
    patch(
        "language_model_graph",
        lambda config, weights: graph(replace(config, **values), weights),
        exporter,
    )
    try:
        from soprano.reference import load
    except ImportError:
        return with_standard_networks(subject)
    build = load.LanguageModel
    patch("LanguageModel", lambda config: build(replace(config, **values)), load)
    return with_standard_networks(subject)


def torch_functional(name: str, **options: Any) -> None:
    """Call a function of `torch.nn.functional` with other options, where PyTorch is installed."""
    try:
        from torch.nn import functional
    except ImportError:
        return
    inner = getattr(functional, name)
    patch(name, lambda *inputs, **own: inner(*inputs, **{**own, **options}), functional)
