"""Runs soprano-tts in its own environment and writes down what passes through it.

    python peer.py JOB OUT

JOB is a JSON file: {"model": folder, "runs": [...], "texts": [...]}; see `Run` and `read_texts`.
OUT receives RUN.npz for each run and texts.json.
This file imports nothing of the project, because both distributions provide a package `soprano`.
The other program is used through its public class; its draws and forward passes are overheard,
never changed.
"""

from __future__ import annotations

import json
import sys
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
    """Texts of one sentence each, spoken one after the other ("offline", "stream") or "batch"."""

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
class Overheard:
    """The forward passes and draws of one call, rows by rows."""

    prompts: list[list[int]] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)  # a step each, (B, V)
    hidden: list[np.ndarray] = field(default_factory=list)  # a step each, (B, H)
    probabilities: list[np.ndarray] = field(default_factory=list)  # a draw each, (B, V)
    drawn: list[np.ndarray] = field(default_factory=list)  # a draw each, (B,)

    def row(self, place: int, stop: int) -> dict[str, np.ndarray]:
        """One utterance: `n` ids drawn, a final [STOP] included, and what each was drawn from."""
        drawn = [int(ids[place]) for ids in self.drawn]
        count = drawn.index(stop) + 1 if stop in drawn else len(drawn)
        steps = {
            name: np.stack([values[place] for values in getattr(self, name)[:count]])
            for name in ("logits", "hidden", "probabilities")
        }
        ids = {"prompt": np.array(self.prompts[place]), "drawn": np.array(drawn[:count])}
        return {**ids, **steps}


class Listener:
    """Hears the language model of a `SopranoTTS` and every draw that is made."""

    def __init__(self, voice: SopranoTTS) -> None:
        self.heard = Overheard()
        voice.pipeline.model.register_forward_hook(self._forward, with_kwargs=True)
        self._multinomial = torch.multinomial
        torch.multinomial = self._draw

    def _forward(self, _: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        if not self.heard.logits:
            ids = given[0] if given else named["input_ids"]
            mask = named.get("attention_mask")
            kept = torch.ones_like(ids) if mask is None else mask
            pairs = zip(ids, kept, strict=True)
            self.heard.prompts = [row[real.bool()].tolist() for row, real in pairs]
        self.heard.logits.append(out.logits[:, -1].numpy().copy())
        self.heard.hidden.append(out.hidden_states[-1][:, -1].numpy().copy())

    def _draw(self, probabilities: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        drawn = self._multinomial(probabilities, *given, **named)
        self.heard.probabilities.append(probabilities.numpy().copy())
        self.heard.drawn.append(drawn[:, 0].numpy().copy())
        return drawn


def speak(voice: SopranoTTS, run: Run, texts: list[str]) -> list[np.ndarray]:
    """The samples of each text by the path of the run."""
    if run.path == "stream":
        return [torch.cat(list(voice.infer_stream(text, **run.sampling))).numpy() for text in texts]
    # More than one sentence a decoder call is what pads the shorter ones.
    voice.decoder_batch_size = len(texts)
    return [audio.numpy() for audio in voice.infer_batch(texts, **run.sampling)]


def record(voice: SopranoTTS, listener: Listener, run: Run) -> dict[str, np.ndarray]:
    """Everything heard in a run, by "utterance.quantity"; seeds vary slowest."""
    stop = voice.pipeline.model.config.eos_token_id
    calls = [run.texts] if run.path == "batch" else [[text] for text in run.texts]
    found: dict[str, np.ndarray] = {}
    count = 0
    for seed in run.seeds:
        for texts in calls:
            torch.manual_seed(seed)
            listener.heard = Overheard()
            for place, samples in enumerate(speak(voice, run, texts)):
                row = {**listener.heard.row(place, stop), "samples": samples}
                if not run.keep_probabilities:
                    del row["probabilities"]
                found |= {f"{count}.{name}": values for name, values in row.items()}
                count += 1
    return found


def read_texts(voice: SopranoTTS, texts: list[str]) -> list[dict[str, Any]]:
    """What becomes of each text: normalised text, pieces, and the ids of each piece's prompt."""
    answers: list[dict[str, Any]] = []
    for text in texts:
        try:
            prompts = [prompt for prompt, _, _ in voice._preprocess_text([text])]
            # As its offline path calls it, one prompt at a time.
            options = {"padding": True, "truncation": True, "max_length": 512}
            ids = [
                voice.pipeline.tokenizer([prompt], **options)["input_ids"][0] for prompt in prompts
            ]
            pieces = [p.removeprefix("[STOP][TEXT]").removesuffix("[START]") for p in prompts]
            answers.append({"normalized": clean_text(text.strip()), "pieces": pieces, "ids": ids})
        except Exception as error:  # whatever the other program raises is its answer
            answers.append(
                {"normalized": f"raises {type(error).__name__}", "pieces": [], "ids": []}
            )
    return answers


def main() -> None:
    job, out = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    if version("soprano-tts") != VERSION:
        raise SystemExit(f"soprano-tts {VERSION} is wanted, got {version('soprano-tts')}")
    voice = SopranoTTS(backend="transformers", device="cpu", model_path=job["model"])
    listener = Listener(voice)
    for given in job["runs"]:
        run = Run(**given)
        np.savez(out / f"{run.name}.npz", **record(voice, listener, run))
    answers = json.dumps(read_texts(voice, job["texts"]))
    (out / "texts.json").write_text(answers, encoding="utf-8")


if __name__ == "__main__":
    main()
