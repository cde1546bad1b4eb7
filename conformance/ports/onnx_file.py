"""One ONNX file as a port: a language model or a decoder, by the names of its inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends import Capabilities
from soprano.backends.base import PortBackend
from soprano.backends.protocol import Float32, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError

_INPUTS, _CACHE = ("input_ids", "attention_mask", "position_ids"), "past_key_values."


class OnnxFile(PortBackend):
    """A graph with the names of community exports; the other network is not offered.

    Raises:
        BackendError: the graph has other inputs or outputs than a network of the family.
    """

    name = "onnx file"

    def __init__(
        self, path: Path, folder: ModelFolder, *, precision: str = "fp32", threads: int | None
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {node.name: node for node in self.session.get_inputs()}
        self.outputs = [node.name for node in self.session.get_outputs()]
        reads_ids = "input_ids" in self.inputs
        unknown = [n for n in self.inputs if n not in _INPUTS and not n.startswith(_CACHE)]
        if unknown and (reads_ids or len(self.inputs) != 1):
            raise BackendError(
                f"{path.name} has the inputs {', '.join(unknown)}, which are none of community "
                "exports"
            )
        spectrum = not reads_ids and len(self.session.get_outputs()[0].shape) == 4
        able = replace(
            Capabilities(precision, batch=False, fork=False, select=False, join=False),
            language_model=reads_ids, decoder=not reads_ids, spectrum=spectrum,
        )  # fmt: skip
        if not reads_ids and not spectrum:
            self.decode_audio_one = self._samples
        self.capabilities = able
        super().__init__(folder, precision=precision, threads=threads)
        self.capabilities = able

    def prefill_one(self, ids: Int64) -> tuple[Any, Any, Any]:
        model = self.config.language_model
        shape = (1, model.num_key_value_heads, 0, model.head_dim)
        names = [name for name in self.inputs if name.startswith(_CACHE)]
        return self._run(ids, {name: np.zeros(shape, np.float32) for name in names}, 0)

    def step_one(self, new_id: int, cache: Any) -> tuple[Any, Any, Any]:
        past, length = cache
        return self._run(np.array([new_id]), past, length)

    def _run(self, ids: Int64, past: dict[str, Any], length: int) -> tuple[Any, Any, Any]:
        total = length + len(ids)
        given: dict[str, Any] = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(length, total)[None],
            **past,
        }
        outputs = dict(
            zip(
                self.outputs,
                self.session.run(None, {n: v for n, v in given.items() if n in self.inputs}),
                strict=True,
            )
        )
        for name in ("logits", "last_hidden_state"):
            if name not in outputs:
                raise BackendError(f"the graph has no output {name}: {', '.join(self.outputs)}")
        present = {name: outputs[name.replace("past_key_values", "present")] for name in past}
        cache = present, total
        logits, hidden = outputs["logits"][0], outputs["last_hidden_state"][0]
        return (
            logits.reshape(-1, logits.shape[-1])[-1],
            hidden.reshape(-1, hidden.shape[-1])[-1],
            cache,
        )

    def decode_one(self, hidden: Float32) -> Any:
        spectrum = self._decode(hidden)
        two_first = spectrum.shape[-1] != 2 and spectrum.shape[0] == 2
        return np.moveaxis(spectrum, 0, -1) if two_first else spectrum

    def _samples(self, hidden: Float32) -> Any:
        return self._decode(hidden).reshape(-1)

    def _decode(self, hidden: Float32) -> Any:
        name, node = next(iter(self.inputs.items()))
        turned = node.shape[1] == hidden.shape[1] and node.shape[-1] != hidden.shape[1]
        return self.session.run(None, {name: (hidden.T if turned else hidden)[None]})[0][0]


def open_onnx_file(
    path: str, model: str | Path, precision: str = "fp32", threads: int | None = None
) -> OnnxFile:
    """Open an ONNX file as a port."""
    folder = ModelFolder.open(model)
    return OnnxFile(Path(path), folder, precision=precision, threads=threads)
