"""A worker that runs soprano-tts in its own environment and records what it computes.

This file imports nothing of this project, because both distributions provide a package `soprano`.
soprano-tts is used through its public class; a forward hook and a wrapper of `torch.multinomial`
record its outputs and do not change them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from soprano.tts import clean_text

from soprano import SopranoTTS

VERSION = "0.2.0"


@dataclass(frozen=True)
class Run:
    """Texts of one sentence each, synthesised one by one ("offline", "stream") or as a "batch"."""

    name: str
    path: str
    texts: list[str]
    temperature: float = 0.0
    top_p: float = 0.95
    repetition_penalty: float = 1.2
    seeds: tuple[int, ...] = (0,)
    keep_probabilities: bool = False

    @property
    def sampling(self) -> dict[str, float]:
        names = ("temperature", "top_p", "repetition_penalty")
        return {name: getattr(self, name) for name in names}


@dataclass
class Recording:
    """The forward passes and draws of one call, a batch of B utterances."""

    prompts: list[list[int]] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)  # of each step, (B, V)
    hidden: list[np.ndarray] = field(default_factory=list)  # of each step, (B, H)
    probabilities: list[np.ndarray] = field(default_factory=list)  # of each draw, (B, V)
    ids: list[np.ndarray] = field(default_factory=list)  # of each draw, (B,)

    def utterance(self, row: int, stop: int) -> dict[str, np.ndarray]:
        """The prompt, the ids with a final [STOP], and the outputs that precede each id."""
        ids = [int(drawn[row]) for drawn in self.ids]
        count = ids.index(stop) + 1 if stop in ids else len(ids)
        outputs = {
            name: np.stack([values[row] for values in getattr(self, name)[:count]])
            for name in ("logits", "hidden", "probabilities")
        }
        return {"prompt": np.array(self.prompts[row]), "ids": np.array(ids[:count]), **outputs}


class Recorder:
    """Records the outputs of a voice's language model and every draw."""

    def __init__(self, voice: SopranoTTS) -> None:
        self.recording = Recording()
        voice.pipeline.model.register_forward_hook(self._forward, with_kwargs=True)
        self._multinomial = torch.multinomial
        torch.multinomial = self._draw

    def _forward(self, _: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        if not self.recording.logits:
            ids = given[0] if given else named["input_ids"]
            mask = named.get("attention_mask")
            kept = torch.ones_like(ids) if mask is None else mask
            pairs = zip(ids, kept, strict=True)
            self.recording.prompts = [row[real.bool()].tolist() for row, real in pairs]
        self.recording.logits.append(out.logits[:, -1].numpy().copy())
        self.recording.hidden.append(out.hidden_states[-1][:, -1].numpy().copy())

    def _draw(self, probabilities: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        drawn = self._multinomial(probabilities, *given, **named)
        self.recording.probabilities.append(probabilities.numpy().copy())
        self.recording.ids.append(drawn[:, 0].numpy().copy())
        return drawn


def synthesize(voice: SopranoTTS, run: Run, texts: list[str]) -> list[np.ndarray]:
    """The samples of each text."""
    if run.path == "stream":
        return [torch.cat(list(voice.infer_stream(text, **run.sampling))).numpy() for text in texts]
    # Shorter sentences are padded only if a decoder call has several.
    voice.decoder_batch_size = len(texts)
    return [audio.numpy() for audio in voice.infer_batch(texts, **run.sampling)]


def record(voice: SopranoTTS, recorder: Recorder, run: Run) -> dict[str, np.ndarray]:
    """Every utterance of a run, as "number.field"; seeds vary slowest."""
    stop = voice.pipeline.model.config.eos_token_id
    calls = [run.texts] if run.path == "batch" else [[text] for text in run.texts]
    fields: dict[str, np.ndarray] = {}
    number = 0
    for seed in run.seeds:
        for texts in calls:
            torch.manual_seed(seed)
            recorder.recording = Recording()
            for row, samples in enumerate(synthesize(voice, run, texts)):
                utterance = {**recorder.recording.utterance(row, stop), "samples": samples}
                if not run.keep_probabilities:
                    del utterance["probabilities"]
                fields |= {f"{number}.{name}": values for name, values in utterance.items()}
                number += 1
    return fields


def process_text(voice: SopranoTTS, text: str) -> tuple[str, list[str], list[list[int]]]:
    """The normalised text, its sentences, and the ids of each sentence's prompt."""
    try:
        prompts = [prompt for prompt, _, _ in voice._preprocess_text([text])]
        # As its offline path calls it, one prompt at a time.
        options = {"padding": True, "truncation": True, "max_length": 512}
        ids = [voice.pipeline.tokenizer([prompt], **options)["input_ids"][0] for prompt in prompts]
        sentences = [p.removeprefix("[STOP][TEXT]").removesuffix("[START]") for p in prompts]
        return clean_text(text.strip()), sentences, ids
    except Exception as error:  # whatever it raises is its result
        return f"raises {type(error).__name__}", [], []


def start(model: str, folder: str) -> tuple[str, Callable[[str], Any]]:
    """The version, and a function from a job {"runs": [...], "texts": [...]} to text results.

    Each run of a job is written to RUN.npz in the folder.
    """
    if version("soprano-tts") != VERSION:
        raise SystemExit(f"soprano-tts {VERSION} is wanted, got {version('soprano-tts')}")
    voice = SopranoTTS(backend="transformers", device="cpu", model_path=model)
    recorder = Recorder(voice)

    def answer(line: str) -> Any:
        job = json.loads(line)
        for arguments in job["runs"]:
            run = Run(**arguments)
            np.savez(Path(folder, f"{run.name}.npz"), **record(voice, recorder, run))
        return [process_text(voice, text) for text in job["texts"]]

    return VERSION, answer
