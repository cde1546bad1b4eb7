"""The language model of `transformers` itself, step by step."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from comparisons.agreement.observe import Utterance
from soprano.sampling import uniforms

PROMPT = 8
STEPS = 512


@torch.inference_mode()
def step_through(folder: Path) -> Utterance:
    """Its logits and hidden states before each of 512 ids, after a prompt, with its own cache."""
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    document.pop("decoder", None)  # of this family, not of Qwen3
    config = Qwen3Config(**document)
    model = Qwen3ForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    size = model.config.vocab_size
    ids = [int(draw * size) for draw in islice(uniforms(7, 0), PROMPT + STEPS)]
    prompt, drawn = ids[:PROMPT], ids[PROMPT:]
    logits, hidden, cache = [], [], None
    for fed in (prompt, *([number] for number in drawn[:-1])):
        output = model(
            torch.tensor([fed]), past_key_values=cache, use_cache=True, output_hidden_states=True
        )
        cache = output.past_key_values
        logits.append(output.logits[0, -1].numpy())
        hidden.append(output.hidden_states[-1][0, -1].numpy())
    nothing = np.zeros(0, np.float32)
    return Utterance(prompt, drawn, np.stack(logits), np.stack(hidden), nothing)
