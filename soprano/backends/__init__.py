"""The two neural stages behind one protocol: `prefill`, `step`, `decode`.

NumPy float32 and int64 cross the boundary, whatever runs inside; an array once returned is never
overwritten.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from soprano.checkpoint.folder import ModelFolder
from soprano.config import IstftConfig, ModelConfig, SamplingOptions
from soprano.errors import BackendError, MissingExtraError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Output(NamedTuple):
    """What the language model says after the last id of each row."""

    logits: Float32  # (B, V)
    hidden: Float32  # (B, H), after the final norm
    state: Any  # the backend's own kind of value, opaque to everyone else


@dataclass(frozen=True)
class Capabilities:
    """What a backend declares it can do; the suite asks for what is declared."""

    precision: str = "fp32"
    activations: str = "float32"  # what products round their inputs to: "float32" or "int8"
    batch: bool = True
    fork: bool = True
    select: bool = True
    join: bool = True
    max_length: int | None = None  # ids of prompt and new tokens together; None: no limit

    @property
    def rounded(self) -> bool:
        """Whether weights or arithmetic are of a lower class than float32."""
        return self.precision != "fp32"

    @property
    def quantised(self) -> bool:
        """Whether weights are held in few bits."""
        return self.precision.startswith("int")

    @property
    def rounds_activations(self) -> bool:
        """Whether products round what enters them."""
        return self.activations != "float32"

    @property
    def float_activations(self) -> bool:
        """Whether products take what enters them as it is."""
        return not self.rounds_activations


@dataclass(frozen=True)
class Attested:
    """One field of the effective configuration and how it is known."""

    value: str
    how: str  # "read back", "inferred" or "unavailable"


Attestation = dict[str, Attested]


class Backend(Protocol):
    """What every implementation offers; `B` rows, `T` ids or hidden states."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> ModelConfig: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def attest(self) -> Attestation:
        """The configuration that is really in force."""
        ...

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        """Read right-padded ids (B, T) of `lengths` (B,) ids each, at least one a row."""
        ...

    def step(self, ids: Int64, state: Any) -> Output:
        """Read one id a row (B,); the state is consumed."""
        ...

    def fork(self, state: Any) -> Any:
        """A copy that lives on independently."""
        ...

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The given rows, in that order; the state is consumed."""
        ...

    def join(self, first: Any, second: Any) -> Any:
        """The rows of both, first before second; both are consumed."""
        ...

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        """The spectrum (B, F, T', 2) of hidden states (B, T, H), `lengths` (B,) of them real.

        T' belongs to the longest row; beyond a row's own frames there are zeros.
        """
        ...

    def close(self) -> None:
        """Give back what the runtime holds."""
        ...


class Spoken(NamedTuple):
    """What a backend's own `synthesize` says of one prompt."""

    ids: list[int]  # audio tokens, without `[STOP]`
    samples: Float32  # (N,), the length law's N
    finish: str  # "stop" or "length"


class OwnStages(Protocol):
    """Methods that a backend may bring in the place of shared stages; it is judged on each it has.

    The uniforms are given, one a token, so that no port needs the family's generator.
    """

    def normalize(self, text: str) -> str: ...

    def tokenize(self, model: Path) -> Any:
        """A tokenizer whose `prompt(sentence)` gives the ids of a prompt."""
        ...

    def sample(
        self, logits: Float32, history: Sequence[int], options: SamplingOptions, uniform: float
    ) -> int: ...

    def istft(
        self, spectrum: Float32, config: IstftConfig, layout: str, *, length: int | None = None
    ) -> Float32: ...

    def synthesize(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
    ) -> Spoken:
        """The whole utterance of one prompt's ids."""
        ...

    def stream(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[Float32]:
        """The samples of the same utterance, some `chunk_size` tokens at a time."""
        ...


_BUILT_IN = {
    "onnx_cpu": ("soprano.backends.onnx:open_onnx", "onnxruntime", "onnx"),
    "openvino_cpu": ("soprano.backends.openvino:OpenVinoBackend", "openvino", "openvino"),
    "pytorch": ("soprano.backends.pytorch:PyTorchBackend", "torch", "torch"),
}
ENTRY_POINTS = "soprano.backends"


def backend_names() -> list[str]:
    """Every backend known by name, in the order that `auto` prefers; installed or not."""
    from importlib.metadata import entry_points

    return [*_BUILT_IN, *sorted(point.name for point in entry_points(group=ENTRY_POINTS))]


def installed_backends() -> list[str]:
    """The built-in backends whose runtime can be imported, in the order that `auto` prefers."""
    from importlib.util import find_spec

    return [name for name, (_, module, _) in _BUILT_IN.items() if find_spec(module)]


def open_backend(
    name: str, model: str | Path, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """Open a model on a backend.

    Args:
        name: "auto", a built-in name, an entry point's name, or "package:factory", where
            `factory(folder: ModelFolder, *, precision: str, threads: int | None)` gives a backend.
        model: an embedded model's name, a checkpoint folder or a bundle folder.
        precision: the class asked for; what the runtime does not grant is an error.
        threads: of the runtime's own pool; None leaves its default.

    Raises:
        BackendError: the name is unknown, or the runtime did not grant what was asked for.
        MissingExtraError: the runtime is not installed.
        ModelError: the folder is missing, incomplete or damaged.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    folder = ModelFolder.open(model)
    if name == "auto":
        name = _first_installed()
    factory = _factory(name)
    return factory(folder, precision=precision, threads=threads)


def _first_installed() -> str:
    names = installed_backends()
    if not names:
        raise MissingExtraError(
            "no runtime is installed: pip install 'soprano-conformance[onnx]' "
            "(or [openvino], or [torch])"
        )
    return names[0]


def _factory(name: str) -> Callable[..., Backend]:
    if name in _BUILT_IN:
        target, requirement, extra = _BUILT_IN[name]
        try:
            return _load(target)
        except ImportError as error:
            raise MissingExtraError(
                f"backend {name!r} needs {requirement}: "
                f"pip install 'soprano-conformance[{extra}]' ({error})"
            ) from None
    if ":" in name:
        try:
            return _load(name)
        except (ImportError, AttributeError) as error:
            raise BackendError(f"backend {name!r} cannot be loaded: {error}") from None
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise BackendError(f"no backend {name!r}; known: {', '.join(backend_names())}")
    factory: Callable[..., Backend] = next(iter(points)).load()
    return factory


def _load(target: str) -> Callable[..., Backend]:
    module, _, attribute = target.partition(":")
    factory: Callable[..., Backend] = getattr(importlib.import_module(module), attribute)
    return factory
