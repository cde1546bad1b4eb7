"""mlx-audio's Soprano as a port: its language model, decoder, ISTFT, text and tokenizer.

mlx-audio draws with MLX's own random numbers, so it is judged on greedy cases. Its own loader
takes the geometry from the folder's name and does not read the decoder of a published checkpoint;
`load` states the geometry of the model's config and loads both networks. `port.py own` uses its
loader, `port.py weights` reads the files that it reads.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_audio.lm.models.cache import KVCache
from mlx_audio.tts.models.soprano import decoder
from mlx_audio.tts.models.soprano.soprano import DecoderConfig, Model, ModelConfig
from mlx_audio.tts.models.soprano.text import clean_text
from mlx_audio.utils import hanning, istft
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))
from messages import States, answer, array, numbers

LOADER = sys.argv[1] if len(sys.argv) > 1 else ""
PROMPT = ("[STOP][TEXT]", "[START]")


def load(folder):
    if LOADER == "own":
        return Model.from_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text())
    stated = config.get("soprano_decoder", {})
    weights = mx.load(str(folder / "model.safetensors"))
    decoder_weights = {}
    for name, tensor in mx.load(str(folder / "decoder.safetensors")).items():
        # A convolution's weight is (out, kernel, in) in MLX.
        decoder_weights[f"decoder.{name}"] = tensor.swapaxes(1, 2) if tensor.ndim == 3 else tensor
    embed = decoder_weights["decoder.decoder.embed.weight"]
    blocks = "decoder.decoder.convnext."
    hop, frames = stated.get("hop_length", 512), stated.get("frames_per_token", 4)
    model_config = ModelConfig.from_dict(config)
    model_config.sample_rate = stated.get("sample_rate", 32000)
    model_config.decoder_config = DecoderConfig(
        decoder_num_layers=len({name.split(".")[3] for name in decoder_weights if blocks in name}),
        decoder_dim=embed.shape[0],
        decoder_intermediate_dim=decoder_weights[f"{blocks}0.pwconv1.weight"].shape[0],
        hop_length=hop,
        n_fft=stated.get("n_fft", 2048),
        upscale=frames,
        input_kernel=embed.shape[1],
        dw_kernel=decoder_weights[f"{blocks}0.dwconv.weight"].shape[1],
        token_size=hop * frames,
    )
    model = Model(model_config)
    model.post_load_hook(folder)
    if LOADER != "weights":
        weights |= decoder_weights
    model.load_weights(list(model.sanitize(weights).items()), strict=LOADER != "weights")
    model.eval()
    return model


class Port:
    def __init__(self):
        self.states, self.tokenizers = States(), {}

    def hello(self, protocol, model, **options):
        self.model = load(Path(model))
        # It computes in the type of the stored weights.
        stored = self.model.language_model.embed_tokens.weight.dtype
        precision = {mx.float32: "fp32", mx.float16: "fp16", mx.bfloat16: "bf16"}[stored]
        return {
            "protocol": 1,
            "name": "mlx-audio",
            "version": version("mlx-audio"),
            "capabilities": {"uniforms": False, "precision": precision},
            "attest": {"device": {"value": str(mx.default_device()), "how": "read back"}},
            "methods": [
                "prefill_one", "step_one", "decode_one", "decode_audio_one", "istft", "normalize",
                "split", "tokenize", "synthesize", "loaded_weights",
            ],
        }  # fmt: skip

    def loaded_weights(self):
        parts = {"language_model": {}, "decoder": {}}
        for name, tensor in tree_flatten(self.model.parameters()):
            part, _, rest = name.partition(".")
            if part == "decoder":  # whose convolutions are (out, kernel, in)
                tensor = tensor.swapaxes(1, 2) if tensor.ndim == 3 else tensor
            elif not rest.startswith("lm_head"):
                rest = f"model.{rest}"
            parts[part][rest] = array(tensor.astype(mx.float32))
        return parts

    def forward(self, ids, cache):
        logits, hidden = self.model._forward_with_hidden_states(mx.array(ids)[None], cache)
        return {
            "logits": array(logits[0, -1].astype(mx.float32)),
            "hidden": array(hidden[0, -1].astype(mx.float32)),
            "state": self.states.keep(cache),
        }

    def prefill_one(self, ids):
        return self.forward(ids, [KVCache() for _ in self.model.layers])

    def step_one(self, id, state):
        return self.forward([id], self.states.take(state))

    def decode_one(self, hidden):
        seen = []
        with mock.patch.object(
            decoder, "istft", lambda bins, **options: (seen.append(bins), istft(bins, **options))[1]
        ):
            self.decode_audio_one(hidden)
        spectrum = np.array(seen[0])
        return {"spectrum": array(np.stack([spectrum.real, spectrum.imag], axis=-1))}

    def decode_audio_one(self, hidden):
        return {"samples": array(self.model.decoder(mx.array(numbers(hidden))[None])[0])}

    def istft(self, spectrum, config, layout, length):
        window, hop = hanning(config["n_fft"]), config["hop_length"]
        rows = []
        for row in numbers(spectrum):
            bins = mx.array(row[..., 0]) + 1j * mx.array(row[..., 1])
            rows.append(istft(bins, window=window, hop_length=hop, win_length=config["win_length"]))
        return {"samples": array(np.stack([np.array(row) for row in rows]))}

    def normalize(self, text):
        return clean_text(text)

    def split(self, text):
        prompts = self.model._preprocess_text([text])
        return [prompt.removeprefix(PROMPT[0]).removesuffix(PROMPT[1]) for prompt, _, _ in prompts]

    def tokenize(self, model, sentence):
        if model not in self.tokenizers:
            self.tokenizers[model] = AutoTokenizer.from_pretrained(model)
        with mock.patch.object(self.model, "tokenizer", self.tokenizers[model]):
            return self.model._tokenize(sentence.join(PROMPT)).tolist()

    def synthesize(self, ids, options, uniforms, max_new_tokens):
        if options["temperature"]:
            raise ValueError("temperature: only greedy utterances can be compared")
        said, hidden = [], []
        for token, state in self.model.stream_generate(
            mx.array(ids), max_tokens=max_new_tokens, temperature=0.0, top_p=options["top_p"]
        ):
            hidden.append(state)
            if token is not None:
                said.append(int(token[0, 0]))
        audio = np.array(self.model.decoder(mx.concatenate(hidden, axis=1))[0])
        # As in `Model.generate`, which counts the first hidden state as a token.
        size = self.model.config.decoder_config.token_size * (len(hidden) - 1)
        return {
            "ids": said,
            "samples": array(audio[-size:] if size > 0 else audio),
            "finish": "length" if len(said) >= max_new_tokens else "stop",
        }


if __name__ == "__main__":
    answer(Port())
