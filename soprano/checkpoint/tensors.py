"""The tensors of a checkpoint: their position in safetensors files, their names and shapes.

The format (https://github.com/huggingface/safetensors) is 8 bytes of header length, a JSON header
and the data. No framework is needed to read it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soprano.checkpoint.contents import MAX_DOCUMENT, missing, not_a, parsing, read_json
from soprano.config import DecoderConfig, LanguageModelConfig
from soprano.errors import ModelError, shown
from soprano.regular_files import open_regular, size_of

Float32 = npt.NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]

_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "U32": 4}  # U32: codes of MLX


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: bytes `offset` to `offset + length` of `path`, which is no link."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int

    def read(self) -> Float32:
        """The values as float32: exact from bf16 and fp16, rounded from float64.

        Raises:
            ModelError: the file has become shorter.
        """
        raw = self._bytes()
        if self.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            widened = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "U32": "<u4"}[self.dtype]
            widened = np.frombuffer(raw, kind)
        with np.errstate(over="ignore"):  # of float64: the result is not finite, and is rejected
            return np.ascontiguousarray(widened.reshape(self.shape), dtype=np.float32)

    def codes(self) -> npt.NDArray[np.uint32]:
        """The values of a tensor of type U32."""
        return np.frombuffer(self._bytes(), "<u4").reshape(self.shape)

    def _bytes(self) -> bytes:
        with open_regular(self.path) as file:
            file.seek(self.offset)
            raw = file.read(self.length)
        if len(raw) != self.length:
            raise ModelError(f"{self.path} is truncated: it was read while it was written")
        return raw


def require_finite(where: Path, name: str, values: npt.NDArray[np.floating]) -> None:
    """An error that names a tensor with NaN or Inf, which would make all samples NaN."""
    if not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "Inf"
        raise ModelError(f"{where}: weights must be finite, {name} contains {kind}")


def index_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file by name, checked against the file's size."""
    with parsing("a safetensors file", path):
        with open_regular(path) as file:
            size = size_of(file)
            length, opening = int.from_bytes(file.read(8), "little"), file.read(1)
            if 8 + length > size and (opening == b"{" or (length and not opening)):
                raise ModelError(f"{path} is truncated: its header is incomplete")
            if opening != b"{":
                raise not_a("a safetensors file", path)
            if length > MAX_DOCUMENT:
                raise ModelError(
                    f"{path}: its header has {length} bytes, and one has at most {MAX_DOCUMENT}"
                )
            raw = opening + file.read(length - 1)
        header = json.loads(raw)
        header.pop("__metadata__", None)
    if not header:
        raise ModelError(f"{path} holds no tensors")
    return {name: _entry(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _entry(path: Path, name: str, entry: object, start: int, size: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [first, last]} if all(
            type(n) is int and n >= 0 for n in (*shape, first, last)
        ):
            pass
        case _:
            raise ModelError(f"{path}: the header entry of {name!r} is damaged: {shown(entry)}")
    if dtype not in _ITEM_BYTES:
        raise ModelError(
            f"{path}: {name} has type {dtype}, which is none of {', '.join(_ITEM_BYTES)}"
        )
    if last - first != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ModelError(f"{path}: the header entry of {name!r} does not fit its shape {shape}")
    if start + last > size:
        raise ModelError(f"{path} is truncated: {name} ends at byte {start + last} of {size}")
    return Tensor(path.resolve(), dtype, tuple(shape), start + first, last - first)


def index_folder(folder: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of `stem.safetensors`, or of the shards that its index file names."""
    whole, index = (folder / f"{stem}.safetensors{suffix}" for suffix in ("", ".index.json"))
    if whole.exists():
        return index_file(whole)
    if not index.exists():
        raise missing(folder, whole.name, f" and no {index.name} of its shards")
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(v, str) for v in shard_of.values()):
        raise ModelError(f"{index} has no weight_map of tensors and their files")
    if outside := [name for name in shard_of.values() if not is_plain_name(name)]:
        raise ModelError(f"{index}: {shown(outside[0])} is not the name of a file beside it")
    shards = {name: index_file(folder / name) for name in sorted(set(shard_of.values()))}
    if lost := [name for name, shard in shard_of.items() if name not in shards[shard]]:
        raise ModelError(f"{index}: {shard_of[lost[0]]} does not hold {lost[0]}")
    return {name: shards[shard][name] for name, shard in shard_of.items()}


def is_plain_name(name: str) -> bool:
    """Whether a name that a file states is that of a file in the same folder."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\\0")


def identity(tensors: Iterable[tuple[str, Float32]]) -> str:
    """SHA-256 of float32 values by name; independent of the file format and the storage type."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values, dtype="<f4").data)
    return digest.hexdigest()


def language_model_shapes(config: LanguageModelConfig) -> Shapes:
    """The tensors of a Qwen3 language model, each matrix (outputs, inputs)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (config.head_dim,),
        "self_attn.k_norm": (config.head_dim,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: Shapes = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(config.num_hidden_layers):
        for name, shape in layer.items():
            shapes[f"model.layers.{number}.{name}.weight"] = shape
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def decoder_shapes(config: DecoderConfig) -> Shapes:
    """The tensors of a Vocos decoder and its head."""
    dim, inner = config.dim, config.intermediate_dim
    block = {
        "dwconv.weight": (dim, 1, config.kernel_size),
        "dwconv.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "pwconv1.weight": (inner, dim),
        "pwconv1.bias": (inner,),
        "pwconv2.weight": (dim, inner),
        "pwconv2.bias": (dim,),
        "gamma": (dim,),
    }
    shapes: Shapes = {
        "decoder.embed.weight": (dim, config.input_size, config.input_kernel_size),
        "decoder.embed.bias": (dim,),
        "head.out.weight": (config.n_fft + 2, dim),
        "head.out.bias": (config.n_fft + 2,),
    }
    for norm in ("norm", "final_layer_norm"):
        shapes |= {f"decoder.{norm}.weight": (dim,), f"decoder.{norm}.bias": (dim,)}
    for number in range(config.num_layers):
        for name, shape in block.items():
            shapes[f"decoder.convnext.{number}.{name}"] = shape
    return shapes


def is_derived(name: str) -> bool:
    """Whether a tensor is a table that training code saves and that follows from the config."""
    return name.endswith(("window", "rotary_emb.inv_freq"))


def require_shapes(where: Path, actual: Mapping[str, tuple[int, ...]], required: Shapes) -> None:
    """An error that names the first tensor that is missing, unknown or of another shape."""
    for name in sorted(set(required) ^ set(actual)):
        raise ModelError(f"{where}: {'missing' if name in required else 'unknown'} tensor {name}")
    for name, shape in required.items():
        if actual[name] != shape:
            raise ModelError(
                f"{where}: {name} has shape {actual[name]}, config.json requires {shape}"
            )
