"""A model folder: its location, its config and its tensors.

A model folder is a checkpoint (the published layout) or a bundle (written by `soprano export`).
Both have config.json and tokenizer.json; only a checkpoint must have weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from soprano.checkpoint.community import CommunityGraphs, find_community_graphs
from soprano.checkpoint.config_json import (
    NORMALIZER_KEY,
    parse_decoder,
    parse_language_model,
    read_generation_defaults,
    states_whole_decoder,
)
from soprano.checkpoint.contents import missing, parsing, read_json, stand_in
from soprano.checkpoint.gguf import read_gguf
from soprano.checkpoint.hub import fetch_model, is_hub_name
from soprano.checkpoint.manifest import read_manifest, require_unchanged
from soprano.checkpoint.mlx import is_mlx, read_mlx
from soprano.checkpoint.pickled import read_state_dict
from soprano.checkpoint.tensors import (
    Float32,
    Shapes,
    Tensor,
    decoder_shapes,
    index_file,
    index_folder,
    is_derived,
    language_model_shapes,
    require_finite,
    require_shapes,
)
from soprano.config import GenerationOptions, ModelConfig
from soprano.errors import ModelError, SopranoError

Shaped = TypeVar("Shaped", Tensor, Float32)

_PACKAGE = Path(__file__).parents[1]
# Files of which a checkpoint has one.
_LANGUAGE_MODEL_FILES = ("model.safetensors", "model.safetensors.index.json")
_DECODER_FILES = ("decoder.safetensors", "decoder.pth")


def embedded_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    configs = sorted((_PACKAGE / "models").glob("*/config.json"))
    return {path.parent.name: path.parent for path in configs}


def locate(model: str | Path) -> Path:
    """The folder of a model, by an embedded model's name, a path, or a name on the hub.

    Raises:
        ModelError: there is no such folder or model; see `soprano.checkpoint.hub.fetch_model`.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder
    embedded = embedded_models()
    if str(model) in embedded:
        return embedded[str(model)]
    if folder.exists():
        raise ModelError(f"model {str(model)!r} is a file, not a checkpoint or bundle folder")
    # Below a folder that exists, a name is a path; with a revision it never is.
    local = folder.parts[:1] and Path(folder.parts[0]).exists() and "@" not in str(model)
    if isinstance(model, str) and is_hub_name(model) and not local:
        try:
            return fetch_model(model)
        except SopranoError as error:
            raise type(error)(f"there is no folder {model!r}, and {error}") from None
    raise ModelError(
        f"no model {str(model)!r}: there is no such folder, and the embedded models are "
        f"{', '.join(embedded) or 'not installed'}"
    )


@dataclass(frozen=True)
class ModelFolder:
    """One model folder; its files are read on first use."""

    path: Path

    @classmethod
    def open(cls, model: str | Path) -> ModelFolder:
        """A model folder; a bundle must be as its manifest states, except for its weights."""
        folder = cls(locate(model))
        read_json(folder.path / "config.json")
        folder.require_unchanged(weights=False)
        return folder

    @property
    def is_bundle(self) -> bool:
        """Whether there is a manifest."""
        return bool(self._manifest)

    def require_unchanged(self, *, weights: bool) -> None:
        """An error if a bundle differs from its manifest; with `weights`, their hashes count too.

        Raises:
            ModelError: a file is missing, was changed, or is not one of the bundle's.
        """
        if self._manifest:
            require_unchanged(self.path, self._manifest, weights=weights)

    @cached_property
    def config(self) -> ModelConfig:
        path = self.path / "config.json"
        document = read_json(path)
        with parsing("the config of a model of this family", path):
            try:
                language_model, shapes = parse_language_model(document), self._decoder_shapes()
                if shapes is None and not states_whole_decoder(document):
                    raise self._without_decoder()
                return ModelConfig(language_model, parse_decoder(document, shapes))
            except ModelError as error:
                text = str(error)
                if str(self.path) in text:
                    raise
                named = text.startswith(path.name)
                raise ModelError(f"{self.path}/{text}" if named else f"{path}: {text}") from None

    @property
    def normalizer(self) -> str:
        """The name of the text normaliser that `config.json` states; "english" by default."""
        return str(read_json(self.path / "config.json").get(NORMALIZER_KEY) or "english")

    @cached_property
    def generation_defaults(self) -> GenerationOptions:
        return read_generation_defaults(self.path)

    @cached_property
    def precision(self) -> str:
        """The precision class of the graphs of a bundle or of a folder without weights; else fp32.

        Of a folder with graphs in several classes, the most precise.
        """
        if "class" in self._precision:
            return str(self._precision["class"])
        graphs = None if self.has_weights else self.community_graphs
        return graphs.precision if graphs else "fp32"

    @cached_property
    def community_graphs(self) -> CommunityGraphs | None:
        """Graphs of a community export, where the folder is not one of our own bundles."""
        own = bool(self._manifest) and self._manifest.get("layout") != "community"
        return None if own else find_community_graphs(self.path)

    def activations(self, runtime: str) -> str:
        """The activation precision of the graphs for a runtime ("onnx" or "openvino")."""
        return str(self._precision.get("activations", {}).get(runtime, "float32"))

    @property
    def quantised(self) -> bool:
        """Whether large matrices are quantised."""
        return self.precision.startswith("int")

    @property
    def _precision(self) -> dict[str, Any]:
        return dict(self._manifest.get("precision") or {})

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        """The manifest of a bundle; empty for a checkpoint."""
        return read_manifest(self.path)

    def damage(self) -> ModelError | None:
        """The error for the first file that no runtime can read, if there is one."""
        for path in filter(Path.is_file, sorted(self.path.rglob("*"))):
            if found := stand_in(path):
                return ModelError(f"{path} is {found}")
        return None

    def without_graphs(self, kind: str) -> ModelError:
        """The error for a folder that has no graphs, and not the weights to write them from."""
        if self._has(*_LANGUAGE_MODEL_FILES):
            return missing(self._weights, kind, f", no {' and no '.join(_DECODER_FILES)}")
        return missing(self._weights, kind, f", no {' and no '.join(_LANGUAGE_MODEL_FILES)}")

    @property
    def has_weights(self) -> bool:
        """Whether the float weights of both networks are here; a quantised bundle has none."""
        if self._has(*_LANGUAGE_MODEL_FILES):
            return self._has(*_DECODER_FILES) or bool(self._mlx_weights.get("decoder"))
        return self._gguf is not None and self._has(*_DECODER_FILES)

    def _has(self, *names: str) -> bool:
        return any((self._weights / name).exists() for name in names)

    @property
    def _weights(self) -> Path:
        """The folder of the safetensors files: in a bundle, that of the ONNX graphs."""
        graphs = self.path / "onnx"
        return graphs if any(graphs.glob("*.safetensors")) else self.path

    @cached_property
    def _gguf(self) -> Path | None:
        """The only GGUF file of a folder that has no safetensors file of a language model."""
        found = sorted(self.path.glob("*.gguf"))
        if self._has(*_LANGUAGE_MODEL_FILES) or not found:
            return None
        if len(found) > 1:
            raise ModelError(f"{found[0].name} and {found[1]} are both a GGUF file: remove one")
        return found[0]

    @cached_property
    def _mlx_weights(self) -> dict[str, dict[str, Float32]]:
        """The weights by network, if they are in the layout of MLX; else empty."""
        document = read_json(self.path / "config.json")
        index = index_folder(self._weights, "model") if self._has(*_LANGUAGE_MODEL_FILES) else {}
        if not is_mlx(document, index):
            return {}
        return read_mlx(self._weights / "model.safetensors", document, index)

    @cached_property
    def language_model_index(self) -> dict[str, Tensor]:
        """The language model's tensors in their files, by their names in the checkpoint.

        Empty if they are stored in another form.
        """
        if self._gguf or self._mlx_weights:
            return {}
        config = self.config.language_model
        index = index_folder(self._weights, "model")
        if config.tie_word_embeddings:
            index.pop("lm_head.weight", None)  # some files hold the tied matrix twice
        if config.num_hidden_layers > len(index):
            raise ModelError(
                f"{self.path}/config.json: num_hidden_layers is {config.num_hidden_layers}, "
                f"the weights have {len(index)} tensors"
            )
        return _checked(self.path, index, language_model_shapes(config))

    @cached_property
    def decoder_index(self) -> dict[str, Tensor]:
        """The decoder's tensors in their file; empty if that is a `decoder.pth`."""
        index = {} if self._mlx_weights.get("decoder") else self._decoder_file
        return _checked(self.path, index, decoder_shapes(self.config.decoder)) if index else {}

    @cached_property
    def _decoder_file(self) -> dict[str, Tensor]:
        path = self._weights / "decoder.safetensors"
        return index_file(path) if path.exists() else {}

    def _decoder_shapes(self) -> dict[str, tuple[int, ...]] | None:
        if own := self._mlx_weights.get("decoder"):
            return {name: values.shape for name, values in own.items()}
        if self._decoder_file:
            return {name: tensor.shape for name, tensor in self._decoder_file.items()}
        if (self.path / "decoder.pth").exists():
            return {name: values.shape for name, values in self._pickled_decoder.items()}
        if graphs := self.community_graphs:
            return dict(graphs.decoder_shapes) or None
        return None

    @cached_property
    def _pickled_decoder(self) -> dict[str, Float32]:
        """The tensors of `decoder.pth`."""
        return read_state_dict(self.path / "decoder.pth")

    def weight_files(self) -> list[Path]:
        """The files that hold the weights of both networks."""
        found = {tensor.path for tensor in self.language_model_index.values()}
        if self._gguf:
            found.add(self._gguf)
        if self._mlx_weights:
            found |= {tensor.path for tensor in index_folder(self._weights, "model").values()}
        if not self._mlx_weights.get("decoder"):
            found |= {t.path for t in self.decoder_index.values()} or {self.path / "decoder.pth"}
        return sorted(found)

    def language_model_weights(self) -> dict[str, Float32]:
        """The language model's tensors as float32, by their names in the checkpoint."""
        config = self.config.language_model
        if self._gguf or self._mlx_weights:
            own = (
                read_gguf(self._gguf, config) if self._gguf else self._mlx_weights["language_model"]
            )
            if config.tie_word_embeddings:
                own.pop("lm_head.weight", None)
            where = self._gguf or self.path
            return _finite(where, _checked(self.path, own, language_model_shapes(config)))
        return _read(self.language_model_index)

    def decoder_weights(self) -> dict[str, Float32]:
        """The decoder's tensors as float32: `decoder.safetensors`, else `decoder.pth`."""
        if own := self._mlx_weights.get("decoder"):
            return _finite(self.path, _checked(self.path, own, decoder_shapes(self.config.decoder)))
        if index := self.decoder_index:
            return _read(index)
        if not (self.path / "decoder.pth").exists():
            raise self._without_decoder()
        pickled = self._pickled_decoder
        own = _checked(self.path, pickled, decoder_shapes(self.config.decoder))
        return _finite(self.path / "decoder.pth", own)

    def _without_decoder(self) -> ModelError:
        return missing(self._weights, "decoder.safetensors", " and no decoder.pth")


def _finite(where: Path, weights: dict[str, Float32]) -> dict[str, Float32]:
    """The weights; an error that names one that is not finite."""
    for name, values in weights.items():
        require_finite(where, name, values)
    return weights


def _read(index: Mapping[str, Tensor]) -> dict[str, Float32]:
    read = {}
    for name, tensor in index.items():
        read[name] = tensor.read()
        require_finite(tensor.path, name, read[name])
    return read


def _checked(path: Path, tensors: Mapping[str, Shaped], required: Shapes) -> dict[str, Shaped]:
    """The tensors of a network; an error if one is missing, unknown or of another shape."""
    own = {name: values for name, values in tensors.items() if not is_derived(name)}
    require_shapes(path, {name: values.shape for name, values in own.items()}, required)
    return own
