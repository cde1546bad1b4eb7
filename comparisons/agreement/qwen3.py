"""The Qwen3 language model of `transformers`, teacher-forced."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from comparisons.agreement.peer_client import Utterance
from soprano.sampling import uniforms

PROMPT = 8
STEPS = 512


@torch.inference_mode()
def teacher_forced(folder: Path) -> Utterance:
    """Its logits and hidden states before each of 512 ids after a prompt, with its KV cache."""
    # A local folder, not a name of the hub.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()  # nosec B615
    size = model.config.vocab_size
    drawn = [int(uniform * size) for uniform in islice(uniforms(7, 0), PROMPT + STEPS)]
    prompt, ids = drawn[:PROMPT], drawn[PROMPT:]
    logits, hidden, cache = [], [], None
    for given in (prompt, *([number] for number in ids[:-1])):
        output = model(
            torch.tensor([given]), past_key_values=cache, use_cache=True, output_hidden_states=True
        )
        cache = output.past_key_values
        logits.append(output.logits[0, -1].numpy())
        hidden.append(output.hidden_states[-1][0, -1].numpy())
    no_samples = np.zeros(0, np.float32)
    return Utterance(prompt, ids, np.stack(logits), np.stack(hidden), no_samples)
