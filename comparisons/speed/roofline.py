"""The roofline: the least time that memory bandwidth and arithmetic of this machine allow.

The parts of a task follow each other; each is bound by its bytes or by its operations, whichever
take longer. Sampling, text, ISTFT and KV cache are left out, so the bound is never too high.
"""

from __future__ import annotations

from dataclasses import dataclass

from comparisons.speed.worker import BATCH
from soprano.config import DecoderConfig, LanguageModelConfig, ModelConfig
from soprano.stft import StreamingIstft

TOKENS = 512
FLOAT = 4.0  # bytes
# Bytes per weight: the code, and a float32 scale per block of 128 (of 32 for 4 bits).
BYTES = {"fp32": FLOAT, "int8": 1 + FLOAT / 128, "int4": 0.5 + FLOAT / 32}


@dataclass(frozen=True)
class Rates:
    """What the machine does in a second."""

    bytes: float
    float32: float  # operations: a multiplication and an addition are two
    int8: float

    def operations(self, precision: str) -> float:
        return self.float32 if precision == "fp32" else self.int8


@dataclass(frozen=True)
class Roofline:
    """Bounds of the tasks of one model for a prompt of `prompt` ids."""

    config: ModelConfig
    prompt: int

    def seconds(self, task: str, precision: str, rates: Rates) -> float:
        """The least time of a task: "step", "one", "stream", "batch" or "first"."""
        if task == "step":
            return self._pass(1, precision, rates)
        rows = BATCH if task == "batch" else 1
        tokens = self._first_tokens() if task == "first" else TOKENS
        frames = rows * self.config.decoder.frames(tokens)
        return (
            self._pass(rows * self.prompt, precision, rates, outputs=rows)
            + (tokens - 1) * self._pass(rows, precision, rates)
            + self._decoder(frames, precision, rates)
        )

    def megabytes(self, precision: str) -> float:
        """MiB of the weights: of layers and decoder, and of the embedding as float."""
        model = self.config.language_model
        matrices = sum(_matrices(model)) + _decoder_weights(self.config.decoder)
        embedding = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
        return (matrices * BYTES[precision] + embedding * FLOAT / 2) / 2**20

    def _pass(self, ids: int, precision: str, rates: Rates, outputs: int | None = None) -> float:
        """A pass of the language model over `ids` ids, with logits for `outputs` of them."""
        layers, output = _matrices(self.config.language_model)
        read = (layers + output) * BYTES[precision] / rates.bytes
        products = layers * ids + output * (ids if outputs is None else outputs)
        return max(read, 2 * products / rates.operations(precision))

    def _decoder(self, frames: int, precision: str, rates: Rates) -> float:
        config = self.config.decoder
        head = config.dim * (config.n_fft + 2)  # float in every precision class
        rounded = (_decoder_weights(config) - head) / rates.operations(precision)
        return 2 * frames * (rounded + head / rates.float32)

    def _first_tokens(self) -> int:
        """Tokens that the samples of the first token depend on."""
        decoder = self.config.decoder
        transform = StreamingIstft(decoder.istft)
        return next(
            tokens
            for tokens in range(1, TOKENS)
            if transform.settled(max(decoder.frames(tokens) - decoder.receptive_frames, 0))
            >= decoder.samples_per_token
        )


def weight_bytes(config: LanguageModelConfig) -> int:
    """Bytes that a float32 step reads."""
    return int(sum(_matrices(config)) * FLOAT)


def _matrices(config: LanguageModelConfig) -> tuple[int, int]:
    """The number of weights of all layers, and of the output."""
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * queries + 2 * keys)
    mlp = 3 * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (attention + mlp), config.vocab_size * config.hidden_size


def _decoder_weights(config: DecoderConfig) -> int:
    """The number of weights, without the depthwise kernels."""
    blocks = config.num_layers * 2 * config.dim * config.intermediate_dim
    first = config.input_size * config.dim * config.input_kernel_size
    return first + blocks + config.dim * (config.n_fft + 2)
