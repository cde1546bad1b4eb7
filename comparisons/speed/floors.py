"""The least time a task can take on this machine: bytes that must be read, operations done.

A part is bound by whichever takes longer; parts follow each other. Sampling, text, the inverse
transform and the cache count nothing, so what remains above a floor is never too little.
"""

from __future__ import annotations

from dataclasses import dataclass

from comparisons.speed.serve import BATCH
from soprano.config import DecoderConfig, LanguageModelConfig, ModelConfig
from soprano.stft import StreamingIstft

TOKENS = 512
FLOAT = 4.0  # bytes
# A level a weight, and a float32 scale a block of 128 (of 32 where there are 4 bits).
BYTES = {"fp32": FLOAT, "int8": 1 + FLOAT / 128, "int4": 0.5 + FLOAT / 32}


@dataclass(frozen=True)
class Roofline:
    """Rates of the machine, a second each."""

    bytes: float
    float32: float  # operations: a multiplication and an addition are two
    int8: float


@dataclass(frozen=True)
class Floors:
    """Seconds of the tasks of one model whose prompt has `prompt` ids."""

    config: ModelConfig
    prompt: int

    def seconds(self, task: str, precision: str, roof: Roofline) -> float | None:
        """None where neither reading nor arithmetic bounds the task."""
        if task == "step":
            return self._pass(1, precision, roof)
        if task not in ("one", "stream", "batch", "first"):
            return None
        rows = BATCH if task == "batch" else 1
        tokens = self._first_tokens() if task == "first" else TOKENS
        frames = rows * self.config.decoder.frames(tokens)
        return (
            self._pass(rows * self.prompt, precision, roof, answers=rows)
            + (tokens - 1) * self._pass(rows, precision, roof)
            + self._decoder(frames, precision, roof)
        )

    def megabytes(self, precision: str) -> float:
        """The weights: layers and decoder, and the embedding as float."""
        model = self.config.language_model
        matrices = sum(_matrices(model)) + _products(self.config.decoder)
        embedding = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
        return (matrices * BYTES[precision] + embedding * FLOAT / 2) / 2**20

    def _pass(self, ids: int, precision: str, roof: Roofline, answers: int | None = None) -> float:
        """One pass of the language model over `ids` ids, `answers` of which reach the output."""
        layers, output = _matrices(self.config.language_model)
        read = (layers + output) * BYTES[precision] / roof.bytes
        products = layers * ids + output * (ids if answers is None else answers)
        return max(read, 2 * products / _rate(precision, roof))

    def _decoder(self, frames: int, precision: str, roof: Roofline) -> float:
        numbers = self.config.decoder
        head = numbers.dim * (numbers.n_fft + 2)  # float in every class
        rounded = (_products(numbers) - head) / _rate(precision, roof)
        return 2 * frames * (rounded + head / roof.float32)

    def _first_tokens(self) -> int:
        """Tokens before the first one's sound is settled."""
        decoder = self.config.decoder
        transform = StreamingIstft(decoder.istft)
        return next(
            tokens
            for tokens in range(1, TOKENS)
            if transform.settled(max(decoder.frames(tokens) - decoder.receptive_frames, 0))
            >= decoder.samples_per_token
        )


def weight_bytes(config: LanguageModelConfig) -> int:
    """What a float32 step reads."""
    return int(sum(_matrices(config)) * FLOAT)


def _rate(precision: str, roof: Roofline) -> float:
    return roof.float32 if precision == "fp32" else roof.int8


def _matrices(config: LanguageModelConfig) -> tuple[int, int]:
    """Weights of all layers, and of the output."""
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * queries + 2 * keys)
    mlp = 3 * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (attention + mlp), config.vocab_size * config.hidden_size


def _products(config: DecoderConfig) -> int:
    """Weights that every frame is multiplied with; the depthwise kernels are left out."""
    blocks = config.num_layers * 2 * config.dim * config.intermediate_dim
    first = config.input_size * config.dim * config.input_kernel_size
    return first + blocks + config.dim * (config.n_fft + 2)
