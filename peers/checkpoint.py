"""A checkpoint of the published size with random weights: what speed is measured on.

`python -m peers.checkpoint FOLDER` writes it, the same bytes each time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from fixtures.micro_models import decoder_weights, language_model_weights, tokenizer, write_json
from soprano.config import DecoderConfig
from soprano.configfile import parse_language_model

# The numbers of the published v1.1 model.
DOCUMENT: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 2304,
    "num_hidden_layers": 17,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "attention_bias": False,
    "bos_token_id": None,
    "eos_token_id": 3,
    "pad_token_id": 3,
    "torch_dtype": "bfloat16",
}
DECODER = DecoderConfig(
    input_size=512,
    dim=768,
    intermediate_dim=2304,
    num_layers=8,
    input_kernel_size=1,
    kernel_size=3,
    frames_per_token=4,
    n_fft=2048,
    hop_length=512,
    win_length=2048,
    sample_rate=32000,
)


def build(folder: Path) -> None:
    """Write the checkpoint in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", DOCUMENT)
    write_json(folder / "generation_config.json", {"temperature": 0.0, "repetition_penalty": 1.2})
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "[UNK]",
            "eos_token": "[STOP]",
            "pad_token": "[STOP]",
            "padding_side": "left",
        },
    )
    (folder / "tokenizer.json").write_text(tokenizer().to_str() + "\n", encoding="utf-8")
    language_model = language_model_weights(parse_language_model(DOCUMENT), seed=1)
    # Every utterance reaches its limit of tokens: [STOP] is never the likeliest id.
    language_model["lm_head.weight"][DOCUMENT["eos_token_id"]] = 0
    save_file(_narrowed(language_model), folder / "model.safetensors")
    decoder = _narrowed(decoder_weights(DECODER, seed=2, loudness=1.0))
    # Training code stores its window beside the weights.
    decoder["head.istft.window"] = torch.hann_window(DECODER.win_length)
    torch.save(decoder, folder / "decoder.pth")


def _narrowed(weights: dict[str, npt.NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values).bfloat16() for name, values in weights.items()}


if __name__ == "__main__":
    build(Path(sys.argv[1]))
