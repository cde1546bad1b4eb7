"""Ways to plant a fault in this process: it stays until the process ends.

Shared stages are patched wherever their functions are known by name, backends are wrapped where
they are opened, and networks are changed in the exporter's graph and in the PyTorch module, so
that a fault sits where a port's would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


class Wrapper:
    """A backend through which everything passes to another; faults override a method."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Plant:
    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Give an attribute another value; returns what it was."""
        before = getattr(owner, name)
        setattr(owner, name, value)
        return before

    def replace(self, function: Any, faulty: Any) -> None:
        """Put a function or class in another's place in every module that knows it by a name."""
        for module in _modules():
            for name, value in list(vars(module).items()):
                if value is function:
                    setattr(module, name, faulty)

    def backend(self, wrap: Callable[[Any], Any]) -> None:
        """Wrap every backend that is opened from now on."""
        from soprano.backends import open_backend

        self.replace(open_backend, lambda *args, **kwargs: wrap(open_backend(*args, **kwargs)))

    def rule(self, name: str, spoken: Any = None, pattern: str | None = None) -> None:
        """Change what a rule of the text stage says or where; without either, take it away."""
        import re

        from soprano import text
        from soprano.text import numbers, symbols, words
        from soprano.text.rules import Rule

        found = 0
        for module in (numbers, symbols, words, text):
            for key, rules in list(vars(module).items()):
                if not (isinstance(rules, tuple) and rules and isinstance(rules[0], Rule)):
                    continue
                changed = []
                for rule in rules:
                    if rule.name != name:
                        changed.append(rule)
                        continue
                    found += 1
                    if spoken is not None:
                        rule = rule._replace(spoken=spoken)
                    if pattern is not None:
                        rule = rule._replace(pattern=re.compile(pattern, rule.pattern.flags))
                    if spoken is not None or pattern is not None:
                        changed.append(rule)
                setattr(module, key, tuple(changed))
        if not found:
            raise LookupError(f"no rule is named {name!r}")

    def standard(self) -> None:
        """The runtimes run the plain network, with a cache that grows: the form that ports have.

        ONNX Runtime's fused operators leave no nodes to change and no cache to reach, and stacked
        matrices in PyTorch leave no modules.
        """
        try:
            from soprano.backends import onnx, onnx_standard

            self.replace(onnx.open_onnx, onnx_standard.StandardOnnxBackend)
        except ImportError:
            pass
        try:
            from soprano.backends import pytorch
            from soprano.backends import pytorch_reference as pytorch_plain

            self.replace(pytorch.PyTorchBackend, pytorch_plain.PlainPyTorchBackend)
        except ImportError:
            pass

    def advanced(self, change: Callable[..., Any]) -> None:
        """`change(inner, backend, ids, positions, state)` in the place of each call of a network.

        `inner` takes the rest; `state` is the one whose columns already count the new ids.
        """
        from soprano.backends.dynamic_cache import GrowingCacheBackend

        self.standard()
        inner = GrowingCacheBackend._advance
        self.set(
            GrowingCacheBackend,
            "_advance",
            lambda backend, ids, positions, state: change(inner, backend, ids, positions, state),
        )

    def node(
        self,
        matches: Callable[[str, str], bool],
        change: Callable[..., tuple[str, Sequence[str], dict[str, Any]]],
    ) -> None:
        """Change nodes of the ONNX graphs as they are written.

        Args:
            matches: whether a node of this kind and name is meant.
            change: `(graph, kind, inputs, attributes)` -> the new kind, inputs and attributes; it
                may write further nodes in front.
        """
        from soprano.onnx_graphs.writer import Graph

        self.standard()
        write = Graph.split

        def split(g: Any, kind: str, *inputs: str, name: str, count: int, **attributes: Any) -> Any:
            if matches(kind, name):
                kind, inputs, attributes = change(g, kind, inputs, attributes)
            return write(g, kind, *inputs, name=name, count=count, **attributes)

        self.set(Graph, "split", split)

    def weights(self, change: Callable[[str, Float32], Float32]) -> None:
        """Change tensors, by name, as every network reads them."""
        from onnx import numpy_helper

        from soprano.checkpoint.folder import ModelFolder
        from soprano.onnx_graphs.writer import Graph

        def stored_weight(g: Any, name: str) -> str:
            source = g._weights[name]
            values = source.read() if hasattr(source, "read") else source
            changed = np.ascontiguousarray(change(name, values), np.float32)
            g._initializers.setdefault(name, numpy_helper.from_array(changed, name))
            return name

        self.set(Graph, "stored_weight", stored_weight)
        for method in ("language_model_weights", "decoder_weights"):
            read = getattr(ModelFolder, method)

            def faulty(folder: Any, read: Any = read) -> dict[str, Float32]:
                return {name: change(name, values) for name, values in read(folder).items()}

            self.set(ModelFolder, method, faulty)

    def module(self, change: Callable[[Any], None]) -> None:
        """Change the PyTorch modules, if PyTorch is here, as they are loaded."""
        try:
            from soprano.reference.load import load_decoder, load_language_model
        except ImportError:
            return
        for load in (load_language_model, load_decoder):

            def faulty(folder: Any, load: Any = load) -> Any:
                loaded = load(folder)
                change(loaded)
                return loaded

            self.replace(load, faulty)


def _modules() -> list[ModuleType]:
    """Everything that may hold the code under test by name: the packages and their tests."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("soprano", "conformance") and "meta" not in name
    ]


def map_cache(backend: Any, cache: Any, change: Callable[[Float32], Float32]) -> Any:
    """A built-in backend's cache with every tensor (B, KV heads, S, head_dim) changed."""
    if hasattr(cache, "read"):  # OpenVINO: variables of an infer request
        cache.write({name: change(values) for name, values in cache.read().items()})
        return cache
    if not isinstance(cache[0], tuple):
        import onnxruntime as ort

        made = ort.OrtValue.ortvalue_from_numpy
        return [made(np.ascontiguousarray(change(past.numpy()))) for past in cache]
    import torch

    return [tuple(torch.tensor(change(x.numpy())) for x in pair) for pair in cache]


def to_bfloat16(values: npt.ArrayLike) -> Float32:
    """Rounded to bfloat16, halves to even, and widened again."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).reshape(np.shape(values))
