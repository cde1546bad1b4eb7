"""The config of a model (read from its folder, never assumed) and the options of a call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

from soprano.errors import ModelError, shown

# Constants of the family that no published file states.
LAYER_NORM_EPS = 1e-6
MAGNITUDE_LIMIT = 100.0
MAX_PROMPT_IDS = 512
MAX_NEW_TOKENS = 512

# The largest numbers of a config, beyond those of any model: memory is allocated by them.
_LARGEST = 2**20
_LARGEST_OF = {
    "num_hidden_layers": 2**10,
    "num_layers": 2**10,
    "num_attention_heads": 2**10,
    "num_key_value_heads": 2**10,
    "head_dim": 2**12,
    "hidden_size": 2**16,
    "vocab_size": 2**24,
    "rope_theta": 1e12,
    "rms_norm_eps": 1.0,
    "n_fft": 2**16,
    "hop_length": 2**16,
    "win_length": 2**16,
    "frames_per_token": 2**8,
    "kernel_size": 2**10,
    "input_kernel_size": 2**10,
}


def _require_numbers(config: object, where: str, names: Iterable[str]) -> None:
    """Raise `ModelError` unless each number is above 0 and at most its largest."""
    for name in names:
        value, largest = getattr(config, name), _LARGEST_OF.get(name, _LARGEST)
        if not 0 < value <= largest:
            kind = "above 0 and at most 1e12" if name == "rope_theta" else f"1 to {largest}"
            kind = "above 0 and at most 1" if name == "rms_norm_eps" else kind
            raise ModelError(f"{where}{name} must be {kind}, got {shown(value)}")


@dataclass(frozen=True)
class LanguageModelConfig:
    """A Qwen3-style causal language model; the names are those of `config.json`."""

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
        flags = ("tie_word_embeddings", "eos_token_id")
        names = [field.name for field in fields(self) if field.name not in flags]
        _require_numbers(self, "config.json: ", names)
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
    """An inverse short-time Fourier transform; lengths in samples.

    `window` is "hann" (periodic), "hamming" (periodic), "blackman" (periodic) or "rectangular";
    a window shorter than n_fft is centred in it.
    `normalized` inverts an STFT that was scaled by 1/sqrt(n_fft).
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
    """A Vocos decoder and the ISTFT after it."""

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
        _require_numbers(self, "decoder: ", [field.name for field in fields(self)])
        for name in ("input_kernel_size", "kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ModelError(f"decoder: {name} must be odd, got {getattr(self, name)}")
        if self.n_fft % 2:
            raise ModelError(f"decoder: n_fft must be even, got {self.n_fft}")
        try:
            _ = self.istft
        except ValueError as error:
            raise ModelError(f"decoder: {error}") from None

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
        """The number of frames on either side that a spectral frame depends on."""
        return self.num_layers * (self.kernel_size // 2) + self.input_kernel_size // 2

    def frames(self, tokens: int) -> int:
        """The number of spectral frames of `tokens` hidden states."""
        return self.frames_per_token * (tokens - 1) + 1 if tokens else 0

    def samples(self, tokens: int) -> int:
        """The number of samples of `tokens` hidden states."""
        return max(tokens - 1, 0) * self.samples_per_token


@dataclass(frozen=True)
class ModelConfig:
    """Both networks of a model."""

    language_model: LanguageModelConfig
    decoder: DecoderConfig

    def __post_init__(self) -> None:
        hidden, inputs = self.language_model.hidden_size, self.decoder.input_size
        if hidden != inputs:
            raise ModelError(
                f"the decoder has {inputs} input channels, the language model {hidden} outputs"
            )

    @property
    def sample_rate(self) -> int:
        return self.decoder.sample_rate


def _require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise `ValueError` outside low to high; if the bounds are integers, the value must be one."""
    kind = Integral if isinstance(low, int) else Real
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        whole = "a whole number, " if kind is Integral else ""
        raise ValueError(f"{name} must be {whole}{low} to {high}, got {shown(value)}")


@dataclass(frozen=True)
class SamplingOptions:
    """How an id is drawn from logits; the defaults are the family's.

    `temperature` 0 is argmax; `top_k` 0 and `top_p` 1 disable these filters.
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
    """Everything except the text that determines what is generated."""

    sampling: SamplingOptions = SamplingOptions()
    seed: int = 0
    max_new_tokens: int = MAX_NEW_TOKENS
    retries: int = 0
    retry_temperature: float | None = None  # None: that of the first attempt
    hallucination_distance: float = 300.0  # L1 between hidden states, of the published checkpoints

    def __post_init__(self) -> None:
        _require_range("seed", self.seed, 0, 2**64 - 1)
        _require_range("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        _require_range("retries", self.retries, 0, 100)
        _require_range("hallucination_distance", self.hallucination_distance, 0.0, 1e9)
        if self.retry_temperature is not None:
            _require_range("retry_temperature", self.retry_temperature, 0.0, 100.0)

    def attempt(self, index: int) -> SamplingOptions:
        """The sampling options of the first attempt (0) or of a later one."""
        if index == 0 or self.retry_temperature is None:
            return self.sampling
        return replace(self.sampling, temperature=self.retry_temperature)
