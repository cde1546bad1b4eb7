"""Checkpoints with random weights in the published layout, which both programs open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, trainers

from fixtures import micro_models
from fixtures.micro_models import (
    decoder_weights,
    language_model_document,
    language_model_weights,
    write_json,
)
from soprano.checkpoint.config_json import parse_language_model
from soprano.config import DecoderConfig

TEXT_TOKENS = 188  # of the published vocabulary of 8192: 4 controls, 8000 audio tokens, text
HIDDEN = 512
BRANCH_GAIN = 8
HEAD_GAIN = 3
LETTERS = " !',-.?abcdefghijklmnopqrstuvwxyz"

# The only decoder that soprano-tts 0.2.0 builds.
DECODER = DecoderConfig(
    input_size=HIDDEN,
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
# That of v1.0: another input convolution and another width.
V10_DECODER = replace(DECODER, dim=512, intermediate_dim=1536, input_kernel_size=3)


@dataclass(frozen=True)
class Checkpoint:
    """The config of one checkpoint.

    `language_model` has the keys of the entries of `MICRO`, and the `width` of the MLP. `stop_gain`
    scales the logit of [STOP]: utterances end after some tens of ids, with 0 never.
    `newer_spelling`: with the keys that newer versions of transformers write.
    """

    name: str
    seed: int
    language_model: dict[str, Any]
    audio_tokens: int
    storage: torch.dtype
    stop_gain: float
    newer_spelling: bool
    decoder: DecoderConfig = DECODER

    @property
    def config(self) -> dict[str, Any]:
        """`config.json`; as in the published files, without the decoder's config."""
        document = language_model_document(self.language_model)
        document["vocab_size"] = 4 + self.audio_tokens + TEXT_TOKENS
        document["hidden_size"] = HIDDEN
        document["intermediate_size"] = self.language_model["width"]
        document["torch_dtype"] = str(self.storage).removeprefix("torch.")
        if self.newer_spelling:
            rope = {"rope_theta": document.pop("rope_theta"), "rope_type": "default"}
            document |= {"rope_parameters": rope, "dtype": document.pop("torch_dtype")}
        return document


# It differs from the other in spelling, storage type and tied embeddings.
SMALL = Checkpoint(
    name="small",
    seed=41,
    language_model={
        "layers": 3, "width": 320, "heads": 6, "key_heads": 2, "head_dim": 48,
        "tie": True, "rope_theta": 1e6,
    },
    audio_tokens=64,
    storage=torch.float32,
    stop_gain=1.6,
    newer_spelling=False,
)  # fmt: skip
# The published size and storage type.
PUBLISHED = Checkpoint(
    name="published size",
    seed=43,
    language_model={
        "layers": 17, "width": 2304, "heads": 4, "key_heads": 1, "head_dim": 128,
        "tie": False, "rope_theta": 10000.0,
    },
    audio_tokens=8000,
    storage=torch.bfloat16,
    stop_gain=2.4,
    newer_spelling=True,
)  # fmt: skip


def write(checkpoint: Checkpoint, folder: Path, corpus: Iterable[str]) -> Path:
    """Write a checkpoint folder; its tokenizer learns its text tokens from `corpus`."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", checkpoint.config)
    tokenizer = _tokenizer(checkpoint.audio_tokens, corpus)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
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
    save_file(_language_model(checkpoint), folder / "model.safetensors", {"format": "pt"})
    weights = decoder_weights(checkpoint.decoder, checkpoint.seed + 1, loudness=1.0)
    state = {name: torch.tensor(values).to(checkpoint.storage) for name, values in weights.items()}
    # soprano-tts requires the window, which is a buffer of its module.
    state["head.istft.window"] = torch.hann_window(checkpoint.decoder.win_length)
    torch.save(state, folder / "decoder.pth")
    return folder


def _language_model(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    config = parse_language_model(checkpoint.config)
    weights = language_model_weights(config, checkpoint.seed)
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    weights[head][config.eos_token_id] *= checkpoint.stop_gain
    if config.tie_word_embeddings:
        # Logits of size 1, so that near ties occur.
        weights["model.norm.weight"] /= abs(weights["model.norm.weight"]).mean()
        # The layers must outweigh the embedding, else each id predicts itself.
        for name in weights:
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights[name] *= BRANCH_GAIN
    else:
        # Of thousands of ids; with smaller logits every utterance would soon have a near tie.
        weights[head] *= HEAD_GAIN
    return {name: torch.tensor(values).to(checkpoint.storage) for name, values in weights.items()}


def _tokenizer(audio_tokens: int, corpus: Iterable[str]) -> Tokenizer:
    """A tokenizer of the published form; its text tokens are learnt from `corpus`."""
    controls = ["[UNK]", "[TEXT]", "[START]", "[STOP]", *(f"[{i}]" for i in range(audio_tokens))]
    tokenizer, form = Tokenizer(models.BPE(unk_token="[UNK]")), micro_models.tokenizer()
    tokenizer.normalizer, tokenizer.pre_tokenizer = form.normalizer, form.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=len(controls) + TEXT_TOKENS,
        special_tokens=[AddedToken(name, normalized=False) for name in controls],
        initial_alphabet=list(LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    # As in the published file.
    tokenizer.enable_padding(direction="left", pad_id=0, pad_token="[STOP]")
    return tokenizer
