"""The numbers of a model (read from its folder, never assumed) and the options of a call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from soprano.errors import ModelError

# Constants of the family that no published file carries.
LAYER_NORM_EPS = 1e-6
MAGNITUDE_LIMIT = 100.0
MAX_PROMPT_IDS = 512
MAX_NEW_TOKENS = 512

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class LanguageModelConfig:
    """The numbers of a Qwen3-style causal language model, by their names in `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    eos_token_id: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("tie_word_embeddings", "eos_token_id") and not value > 0:
                raise ModelError(f"config.json: {field.name} must be positive, got {value!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelError(
                f"config.json: num_attention_heads ({self.num_attention_heads}) must be a multiple "
                f"of num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ModelError(f"config.json: head_dim must be even for RoPE, got {self.head_dim}")
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise ModelError(
                f"config.json: eos_token_id {self.eos_token_id} is not in the vocabulary"
            )


@dataclass(frozen=True)
class IstftConfig:
    """The numbers of an inverse short-time Fourier transform, lengths in samples.

    `window` is "hann" (periodic), "hamming" (periodic), "blackman" (periodic) or "rectangular";
    a window shorter than n_fft is centred in it.
    `normalized` undoes a forward transform that was scaled by 1/sqrt(n_fft).
    """

    n_fft: int
    hop_length: int
    win_length: int
    window: str = "hann"
    center: bool = True
    normalized: bool = False
    onesided: bool = True

    def __post_init__(self) -> None:
        if self.n_fft < 1:
            raise ValueError(f"n_fft must be positive, got {self.n_fft}")
        if not 1 <= self.win_length <= self.n_fft:
            raise ValueError(f"win_length must be 1 to n_fft={self.n_fft}, got {self.win_length}")
        if not 1 <= self.hop_length <= self.win_length:
            raise ValueError(
                f"hop_length must be 1 to win_length={self.win_length}, got {self.hop_length}"
            )

    @property
    def bins(self) -> int:
        """Frequency bins of a frame: n_fft//2 + 1 one-sided, n_fft two-sided."""
        return self.n_fft // 2 + 1 if self.onesided else self.n_fft


@dataclass(frozen=True)
class DecoderConfig:
    """The numbers of a Vocos decoder and of the sound that it makes."""

    input_size: int
    dim: int
    intermediate_dim: int
    num_layers: int
    input_kernel_size: int
    kernel_size: int
    frames_per_token: int
    n_fft: int
    hop_length: int
    win_length: int
    sample_rate: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ModelError(f"decoder: {field.name} must be positive")
        for name in ("input_kernel_size", "kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ModelError(f"decoder: {name} must be odd, got {getattr(self, name)}")
        if self.n_fft % 2:
            raise ModelError(f"decoder: the head needs an even n_fft, got {self.n_fft}")

    @property
    def istft(self) -> IstftConfig:
        return IstftConfig(self.n_fft, self.hop_length, self.win_length)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def samples_per_token(self) -> int:
        return self.frames_per_token * self.hop_length

    @property
    def receptive_frames(self) -> int:
        """Frames on either side of a spectral frame that its value depends on."""
        return self.num_layers * (self.kernel_size // 2) + self.input_kernel_size // 2

    def frames(self, tokens: int) -> int:
        """Spectral frames of `tokens` hidden states."""
        return self.frames_per_token * (tokens - 1) + 1 if tokens else 0

    def samples(self, tokens: int) -> int:
        """Samples of `tokens` hidden states: the first token's frame is trimmed by `center`."""
        return max(tokens - 1, 0) * self.samples_per_token


@dataclass(frozen=True)
class ModelConfig:
    """Both networks of a model."""

    language_model: LanguageModelConfig
    decoder: DecoderConfig

    def __post_init__(self) -> None:
        hidden, wanted = self.language_model.hidden_size, self.decoder.input_size
        if hidden != wanted:
            raise ModelError(
                f"the decoder reads {wanted} channels, the language model gives {hidden}"
            )

    @property
    def sample_rate(self) -> int:
        return self.decoder.sample_rate


def _require_range(name: str, value: float, low: float, high: float) -> None:
    """An error outside low to high; where the bounds are integers, the value must be one."""
    kind = Integral if isinstance(low, int) else Real
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        whole = "a whole number, " if kind is Integral else ""
        raise ValueError(f"{name} must be {whole}{low} to {high}, got {value!r}")


@dataclass(frozen=True)
class SamplingOptions:
    """How an id is drawn from logits; the family's defaults.

    `temperature` 0 is argmax, `top_k` 0 and `top_p` 1 switch those filters off.
    """

    temperature: float = 0.0
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.2

    def __post_init__(self) -> None:
        _require_range("temperature", self.temperature, 0.0, 100.0)
        _require_range("top_p", self.top_p, 0.0, 1.0)
        _require_range("top_k", self.top_k, 0, 2**31)
        _require_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        if self.top_p == 0:
            raise ValueError("top_p must be above 0")


@dataclass(frozen=True)
class GenerationOptions:
    """Everything but the text that decides what is generated."""

    sampling: SamplingOptions = SamplingOptions()
    seed: int = 0
    max_new_tokens: int = MAX_NEW_TOKENS
    retries: int = 0
    retry_temperature: float | None = None  # None: as before; a greedy utterance is then kept
    hallucination_distance: float = 300.0  # L1 between successive hidden states; of the published

    def __post_init__(self) -> None:
        _require_range("seed", self.seed, 0, 2**64 - 1)
        _require_range("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        _require_range("retries", self.retries, 0, 100)
        _require_range("hallucination_distance", self.hallucination_distance, 0.0, 1e9)
        if self.retry_temperature is not None:
            _require_range("retry_temperature", self.retry_temperature, 0.0, 100.0)

    def attempt(self, number: int) -> SamplingOptions:
        """The sampling of a first try (0) or of a later one."""
        if number == 0 or self.retry_temperature is None:
            return self.sampling
        return replace(self.sampling, temperature=self.retry_temperature)


# Keys of `config.json` that say something, or that fix an arithmetic this family does not vary.
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("qwen3",),
    "architectures": (["Qwen3ForCausalLM"],),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "attention_dropout": (0, 0.0),
    "use_sliding_window": (False,),
    "rope_scaling": (None,),
    "quantization_config": (None,),
}
# Keys that Hugging Face configs are known to carry and that change nothing here.
_IGNORED = frozenset(
    {
        "_name_or_path",
        "add_cross_attention",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "max_position_embeddings",
        "max_window_layers",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "sliding_window",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
_SIGNAL_KEYS = ("sample_rate", "n_fft", "hop_length", "win_length", "frames_per_token")

# A published config.json carries no numbers of the sound; these belong to its two decoders,
# recognised by (input channels, dim, layers, input kernel, head rows).
_PUBLISHED_SIGNAL = {
    "sample_rate": 32000,
    "n_fft": 2048,
    "hop_length": 512,
    "win_length": 2048,
    "frames_per_token": 4,
}
_PUBLISHED_DECODERS = {(512, 512, 8, 3, 2050): "v1.0", (512, 768, 8, 1, 2050): "v1.1"}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a `ModelError` that names the file where there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}: not a model folder") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object")
    return document


def parse_language_model(document: Mapping[str, Any]) -> LanguageModelConfig:
    """The language model's numbers out of a `config.json`, in its older or newer spelling."""
    rope = dict(document.get("rope_parameters") or {})
    if rope.pop("rope_type", "default") != "default":
        raise ModelError("config.json: only rope_type 'default' is of this family")
    numbers = {**document, **rope}
    names = [field.name for field in fields(LanguageModelConfig)]
    known = {*names, *_FIXED, *_IGNORED, "rope_parameters", "layer_types", "decoder"}
    if unknown := sorted(set(numbers) - known):
        raise ModelError(f"config.json: unknown key {unknown[0]!r}")
    for key, allowed in _FIXED.items():
        if key in numbers and numbers[key] not in allowed:
            raise ModelError(f"config.json: {key} must be {allowed[0]!r}, got {numbers[key]!r}")
    if set(numbers.get("layer_types") or ()) - {"full_attention"}:
        raise ModelError("config.json: every layer must be of type 'full_attention'")
    if missing := [name for name in names if numbers.get(name) is None]:
        raise ModelError(f"config.json: missing key {missing[0]!r}")
    types: dict[str, type] = {
        "rms_norm_eps": float,
        "rope_theta": float,
        "tie_word_embeddings": bool,
    }
    for name in names:
        wanted = types.get(name, int)
        if not isinstance(numbers[name], (int, float) if wanted is float else wanted):
            raise ModelError(
                f"config.json: {name} must be of type {wanted.__name__}, got {numbers[name]!r}"
            )
    chosen: dict[str, Any] = {name: types.get(name, int)(numbers[name]) for name in names}
    return LanguageModelConfig(**chosen)


def parse_decoder(document: Mapping[str, Any], shapes: Shapes | None) -> DecoderConfig:
    """The decoder's numbers, from its tensors' shapes and the `decoder` object of `config.json`.

    Shapes decide the architecture and the object the signal; where both name a number they must
    agree. Without the object only the two published decoders are known, by their shapes.
    """
    stated = document.get("decoder")
    if stated is not None and not isinstance(stated, dict):
        raise ModelError("config.json: 'decoder' must be an object")
    names = [field.name for field in fields(DecoderConfig)]
    if unknown := sorted(set(stated or ()) - set(names)):
        raise ModelError(f"config.json: unknown key 'decoder.{unknown[0]}'")
    measured = _measure_decoder(shapes) if shapes is not None else {}
    if stated is None:
        stated = _published_signal(measured)
    for name in set(measured) & set(stated):
        if measured[name] != stated[name]:
            raise ModelError(
                f"config.json says decoder.{name}={stated[name]}, the weights say {measured[name]}"
            )
    numbers = {**measured, **stated}
    if missing := [name for name in names if not isinstance(numbers.get(name), int)]:
        raise ModelError(f"config.json: missing number 'decoder.{missing[0]}'")
    return DecoderConfig(**{name: numbers[name] for name in names})


def _published_signal(measured: Mapping[str, int]) -> dict[str, int]:
    keys = ("input_size", "dim", "num_layers", "input_kernel_size")
    signature = (*(measured.get(key, 0) for key in keys), measured.get("n_fft", 0) + 2)
    if signature not in _PUBLISHED_DECODERS:
        raise ModelError(
            "config.json has no 'decoder' object with "
            f"{', '.join(_SIGNAL_KEYS)}, and the weights are of no published decoder"
        )
    return dict(_PUBLISHED_SIGNAL)


def _measure_decoder(shapes: Shapes) -> dict[str, int]:
    try:
        dim, input_size, input_kernel = shapes["decoder.embed.weight"]
        intermediate = shapes["decoder.convnext.0.pwconv1.weight"][0]
        kernel = shapes["decoder.convnext.0.dwconv.weight"][2]
        rows = shapes["head.out.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"the decoder's weights are not of this family: {error}") from None
    layers = {name.split(".")[2] for name in shapes if name.startswith("decoder.convnext.")}
    return {
        "input_size": input_size,
        "dim": dim,
        "intermediate_dim": intermediate,
        "num_layers": len(layers),
        "input_kernel_size": input_kernel,
        "kernel_size": kernel,
        "n_fft": rows - 2,
    }


def decoder_document(config: DecoderConfig) -> dict[str, int]:
    """The complete `decoder` object, for folders whose weights may not tell their shapes."""
    return asdict(config)


def read_sampling_defaults(folder: Path) -> SamplingOptions:
    """The sampling defaults of a model: its `generation_config.json`, else the family's."""
    path = folder / "generation_config.json"
    if not path.exists():
        return SamplingOptions()
    document = read_json(path)
    names = [field.name for field in fields(SamplingOptions)]
    given = {name: document[name] for name in names if document.get(name) is not None}
    if document.get("do_sample") is False and "temperature" not in given:
        given["temperature"] = 0.0
    try:
        return SamplingOptions(**given)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
