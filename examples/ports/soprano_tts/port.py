"""soprano-tts as a port: its networks, text, tokenizer, loops, detector and WAV files.

soprano-tts draws with PyTorch's random numbers, so it is judged on greedy cases. Its constructor
builds the geometry of Soprano 1.1 only; `load` builds that of the model.
"""

import contextlib
import inspect
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import soprano.tts
import torch
from safetensors.torch import load_file
from scipy.io import wavfile
from soprano.backends.transformers import TransformersModel
from soprano.tts import SopranoTTS
from soprano.utils.text_normalizer import clean_text
from soprano.vocos.decoder import SopranoDecoder
from soprano.vocos.spectral_ops import ISTFT
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))
from messages import States, answer, array, numbers

PROMPT = ("[STOP][TEXT]", "[START]")


def load(folder):
    stated = json.loads((folder / "config.json").read_text()).get("soprano_decoder", {})
    if (folder / "decoder.safetensors").exists():
        weights = load_file(folder / "decoder.safetensors")
    else:
        weights = torch.load(folder / "decoder.pth", map_location="cpu")
    tts = SopranoTTS.__new__(SopranoTTS)
    tts.device, tts.decoder_batch_size, tts.RECEPTIVE_FIELD = "cpu", 1, 4
    tts.pipeline = TransformersModel(device="cpu", model_path=str(folder))
    tts.pipeline.model.float()
    embed, blocks = weights["decoder.embed.weight"], "decoder.convnext."
    hop, upscale = stated.get("hop_length", 512), stated.get("frames_per_token", 4)
    tts.TOKEN_SIZE = hop * upscale
    tts.decoder = SopranoDecoder(
        num_input_channels=embed.shape[1],
        decoder_num_layers=len({name.split(".")[2] for name in weights if blocks in name}),
        decoder_dim=embed.shape[0],
        decoder_intermediate_dim=weights[f"{blocks}0.pwconv1.weight"].shape[0],
        hop_length=hop,
        n_fft=stated.get("n_fft", 2048),
        upscale=upscale,
        dw_kernel=weights[f"{blocks}0.dwconv.weight"].shape[2],
    )
    # A published decoder.pth holds the window too; safetensors files may not.
    window = {"head.istft.window": tts.decoder.head.istft.window}
    tts.decoder.load_state_dict(window | {name: each.float() for name, each in weights.items()})
    return tts


class Torch:
    """PyTorch, whose zeros in the padding of a batch have the width of the model, not 512."""

    def __init__(self, width):
        self.width = width

    def __getattr__(self, name):
        return getattr(torch, name)

    def zeros(self, shape, **options):
        return torch.zeros((shape[0], self.width, *shape[2:]), **options)


class Encoded(dict):
    """The ids of a prompt, in place of the tokenizer's answer."""

    def __init__(self, ids):
        ids = torch.tensor([ids])
        super().__init__(input_ids=ids, attention_mask=torch.ones_like(ids))

    def to(self, device):
        return self


class Port:
    def __init__(self):
        self.states, self.tokenizers = States(), {}

    def hello(self, protocol, model, threads, **options):
        torch.set_grad_enabled(False)
        if threads:
            torch.set_num_threads(threads)
        self.tts = load(Path(model))
        self.tokenizer = self.tts.pipeline.tokenizer
        soprano.tts.torch = Torch(self.tts.pipeline.model.config.hidden_size)
        return {
            "protocol": 1,
            "name": "soprano-tts",
            "version": version("soprano-tts"),
            "capabilities": {"uniforms": False},
            "attest": {
                "device": {"value": "cpu", "how": "read back"},
                "threads": {"value": str(torch.get_num_threads()), "how": "read back"},
            },
            "methods": [
                "prefill_one", "step_one", "decode_one", "decode_audio_one", "istft", "normalize",
                "split", "tokenize", "is_stuck", "synthesize", "stream", "wav", "default_options",
            ],
        }  # fmt: skip

    def forward(self, ids, cache):
        output = self.tts.pipeline.model(
            torch.tensor([ids]), past_key_values=cache, use_cache=True, output_hidden_states=True
        )
        return {
            "logits": array(output.logits[0, -1]),
            "hidden": array(output.hidden_states[-1][0, -1]),
            "state": self.states.keep(output.past_key_values),
        }

    def prefill_one(self, ids):
        return self.forward(ids, None)

    def step_one(self, id, state):
        return self.forward([id], self.states.take(state))

    def decode_one(self, hidden):
        seen = []
        with mock.patch.object(
            ISTFT, "forward", lambda istft, spectrum, own=ISTFT.forward: (
                own(istft, spectrum), seen.append(spectrum)
            )[0],
        ):  # fmt: skip
            self.decode_audio_one(hidden)
        return {"spectrum": array(torch.view_as_real(seen[0][0]))}

    def decode_audio_one(self, hidden):
        states = torch.tensor(numbers(hidden).T[None])
        return {"samples": array(self.tts.decoder(states)[0])}

    def istft(self, spectrum, config, layout, length):
        own = ISTFT(config["n_fft"], config["hop_length"], config["win_length"], "center")
        bins = torch.view_as_complex(torch.tensor(numbers(spectrum)).contiguous())
        return {"samples": array(own(bins))}

    def normalize(self, text):
        return clean_text(text)

    def split(self, text):
        prompts = self.tts._preprocess_text([text])
        return [prompt.removeprefix(PROMPT[0]).removesuffix(PROMPT[1]) for prompt, _, _ in prompts]

    def tokenize(self, model, sentence):
        if model not in self.tokenizers:
            self.tokenizers[model] = AutoTokenizer.from_pretrained(model)
        own = self.tokenizers[model]
        return own(sentence.join(PROMPT), truncation=True, max_length=512)["input_ids"]

    def is_stuck(self, hidden, distance):
        # Its own distance is the constant 300.
        states = torch.tensor(numbers(hidden).copy()) * (300 / distance)
        return bool(self.tts.hallucination_detector(states))

    @contextlib.contextmanager
    def prompt(self, ids, limit):
        """Its loops read these ids, its constant 512 is the limit; yields the ids and results."""
        pipeline, said, results = self.tts.pipeline, [], []
        generate, infer, stream = pipeline.model.generate, pipeline.infer, pipeline.stream_infer

        def noted(**options):
            output = generate(**{**options, "max_new_tokens": limit})
            said.extend(output.sequences[0, len(ids) :].tolist())
            return output

        def kept(*args, **options):
            results.extend(infer(*args, **options))
            return results

        def limited(prompt, **options):
            for count, token in enumerate(stream(prompt, **options), start=1):
                if count == limit:
                    token["finish_reason"] = token["finish_reason"] or "length"
                yield token
                if count == limit:
                    return

        pipeline.tokenizer = lambda *args, **options: Encoded(ids)
        pipeline.tokenizer.pad_token_id = self.tokenizer.pad_token_id
        with (
            mock.patch.object(pipeline.model, "generate", noted),
            mock.patch.object(pipeline, "infer", kept),
            mock.patch.object(pipeline, "stream_infer", limited),
            mock.patch.object(self.tts, "_preprocess_text", return_value=[("", 0, 0)]),
        ):
            yield said, results
        pipeline.tokenizer = self.tokenizer

    def chosen(self, options):
        if options["temperature"]:
            raise ValueError("temperature: only greedy utterances can be compared")
        return {name: options[name] for name in ("temperature", "top_p", "repetition_penalty")}

    def synthesize(self, ids, options, uniforms, max_new_tokens):
        with self.prompt(ids, max_new_tokens) as (said, results):
            samples = self.tts.infer("", **self.chosen(options))
        stop = self.tts.pipeline.model.config.eos_token_id
        return {
            "ids": [each for each in said if each != stop],
            "samples": array(samples),
            "finish": results[0]["finish_reason"],
        }

    def stream(self, ids, options, uniforms, max_new_tokens, chunk_size):
        with self.prompt(ids, max_new_tokens):
            yield from self.tts.infer_stream("", chunk_size=chunk_size, **self.chosen(options))

    def wav(self, samples, sample_rate):
        # As in `infer`, whose rate is the constant 32000.
        file = io.BytesIO()
        wavfile.write(file, sample_rate, numbers(samples))
        return {"bytes": list(file.getvalue())}

    def default_options(self):
        stated = inspect.signature(SopranoTTS.infer).parameters
        names = ("temperature", "top_p", "repetition_penalty")
        return {"top_k": 0, **{name: stated[name].default for name in names}}


if __name__ == "__main__":
    answer(Port())
