"""A model folder whose language model is a GGUF file, for llama.cpp and other ggml runtimes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.gguf import ARCHITECTURE, metadata, require_gguf, tensor_names
from soprano.errors import ModelError
from soprano.export.replace import replacing, writing

TYPES = {"fp32": "F32", "fp16": "F16", "int8": "Q8_0", "int4": "Q4_0"}
_BLOCK = 32  # columns of a block of the quantised types
_COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def export_gguf(model: str | Path, out: str | Path, *, precision: str = "fp32") -> Path:
    """Write a model folder with `model.gguf` and the decoder's weights, and return its path.

    Matrices are stored in the type of the precision class, norms in float32.

    Raises:
        ModelError: the target exists, or a matrix has no whole blocks of a quantised type.
    """
    if precision not in TYPES:
        raise ValueError(f"precision must be one of {', '.join(TYPES)}, got {precision!r}")
    source, target = ModelFolder.open(model), Path(out)

    def require_empty() -> None:
        if target.exists() and any(target.iterdir()):
            raise ModelError(f"{target} is not empty; choose another folder")

    with replacing(target, require_empty) as folder:
        for name in _COPIED:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
        with writing(folder / "decoder.safetensors") as path:
            save_file(source.decoder_weights(), path)
        with writing(folder / "model.gguf") as path:
            write_gguf(source, path, precision)
    return target


def write_gguf(source: ModelFolder, path: Path, precision: str) -> None:
    """The language model of a folder as a GGUF file without a tokenizer."""
    gguf, config = require_gguf(), source.config.language_model
    kind = gguf.GGMLQuantizationType[TYPES[precision]]
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    for key, value in metadata(config).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(1024)
    writer.add_tokenizer_model("none")
    names = tensor_names(config.num_hidden_layers)
    for name, values in source.language_model_weights().items():
        quantised = values.ndim == 2 and precision.startswith("int")
        if quantised and values.shape[1] % _BLOCK:
            raise ModelError(f"{name} has {values.shape[1]} columns, not a multiple of {_BLOCK}")
        _add(gguf, writer, names[name], values, kind if values.ndim == 2 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(gguf: Any, writer: Any, name: str, values: Any, kind: Any) -> None:
    if kind is None or kind.name == "F32":
        writer.add_tensor(name, values)
    elif kind.name == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
