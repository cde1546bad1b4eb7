"""CK: every rejection names the file, what was expected and what was found, on one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from soprano.audio import read_wav
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.hub import fetch_model
from soprano.errors import ModelError
from soprano.tokenizer import load_tokenizer

from ..model_folders.checkpoints import SOURCE, change_config

GOLDEN = Path(__file__).with_name("rejections.txt")
LONGEST = 300
CONFIG, WEIGHTS, DECODER = "config.json", "model.safetensors", "decoder.safetensors"


def changed(**entries):
    return lambda folder: change_config(folder, **entries)


def decoder(**entries):
    def change(folder):
        own = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["soprano_decoder"]
        change_config(folder, soprano_decoder={**own, **entries})

    return change


def holds(name, content):
    def change(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def is_now(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


def header(name, size=None, **entry):
    """A safetensors file with another entry of its first tensor, or another size of its header."""

    def change(folder):
        raw = (folder / name).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        document = json.loads(raw[8 : 8 + length])
        first = sorted(set(document) - {"__metadata__"})[0]
        document[first] = {**document[first], **entry} if entry else document[first]
        text = json.dumps(document).encode()
        data = raw[8 + length :]
        (folder / name).write_bytes((size or len(text)).to_bytes(8, "little") + text + data)

    return change


def value(name, tensor, number):
    def change(folder):
        tensors = load_file(folder / name)
        tensors[tensor].flat[-1] = number
        save_file(tensors, folder / name)

    return change


def sharded(weight_map):
    def change(folder):
        (folder / WEIGHTS).unlink()
        document = json.dumps({"weight_map": weight_map})
        (folder / f"{WEIGHTS}.index.json").write_text(document, encoding="utf-8")

    return change


def sparse(path):
    with path.open("wb") as file:
        file.write((5 * 10**9).to_bytes(8, "little") + b"{")
        file.truncate(6 * 10**9)


def tokens(**entries):
    def change(folder):
        path = folder / "tokenizer.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**document, **entries}), encoding="utf-8")

    return change


def without_control_tokens(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[START]", "[BEGIN]"), "utf-8")


def id_beyond_the_vocabulary(folder):
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 2**31
    path.write_text(json.dumps(document), encoding="utf-8")


CASES = {
    "layers": changed(num_hidden_layers=10**12),
    "many layers": changed(num_hidden_layers=1000),
    "infinite theta": changed(rope_theta=float("inf")),
    "huge integer": changed(rope_theta=10**400),
    "epsilon": changed(rms_norm_eps=float("nan")),
    "a flag for a number": changed(vocab_size=True),
    "layer types": changed(layer_types=[{}]),
    "window": decoder(win_length=7),
    "hop": decoder(hop_length=10**9),
    "frames": decoder(frames_per_token=10**6),
    "deep": holds(CONFIG, "[" * 100_000),
    "deep object": holds(CONFIG, '{"a":' * 100_000),
    "list": holds(CONFIG, "[1]"),
    "long number": holds(CONFIG, '{"a": ' + "1" * 5000 + "}"),
    "surrogates": holds(CONFIG, b'{"model_type": "\\ud800"}'),
    "not UTF-8": holds(CONFIG, b'{"\xff": 1}'),
    "control characters in a key": changed(**{"a\x1b[2J\n\0b": 1}),
    "a long key": changed(**{"k" * 5000: 1}),
    "pipe": is_now(CONFIG, os.mkfifo),
    "pipe of weights": is_now(WEIGHTS, os.mkfifo),
    "pipe of a tokenizer": is_now("tokenizer.json", os.mkfifo),
    "device": is_now(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "loop of links": is_now("generation_config.json", lambda path: path.symlink_to(path.name)),
    "folder": is_now(DECODER, Path.mkdir),
    "sparse": is_now(WEIGHTS, sparse),
    "sparse document": is_now("tokenizer.json", sparse),
    "header length": header(WEIGHTS, size=2**63),
    "type": header(WEIGHTS, dtype="I64"),
    "shape": header(WEIGHTS, shape=[-1, 3]),
    "shape of floats": header(WEIGHTS, shape=[1.5]),
    "offsets": header(WEIGHTS, data_offsets=[0, 10**12]),
    "entry": header(DECODER, data_offsets=None),
    "NaN": value(WEIGHTS, "model.norm.weight", np.nan),
    "Inf": value(DECODER, "head.out.bias", -np.inf),
    "shard outside": sharded({"a": "../other/model.safetensors"}),
    "absolute shard": sharded({"a": "/etc/passwd"}),
    "shard with a null byte": sharded({"a": "model\0.safetensors"}),
    "generation options": holds("generation_config.json", '{"temperature": "hot"}'),
    "tokenizer": holds("tokenizer.json", '{"model": {"type": "BPE"}}'),
    "tokenizer of another form": tokens(model={"type": "BPE", "vocab": {"a": -1}, "merges": []}),
    "no control tokens": without_control_tokens,
    "id beyond the vocabulary": id_beyond_the_vocabulary,
    "manifest": holds("manifest.json", '{"schema_version": 99}'),
    "manifest without files": holds("manifest.json", '{"schema_version": 1}'),
}


def read_everything(path):
    folder = ModelFolder.open(path)
    _ = folder.generation_defaults, folder.config
    folder.language_model_weights(), folder.decoder_weights()
    tokenizer = load_tokenizer(path)
    tokenizer.require_match(folder.config.language_model)
    tokenizer.prompt("hi")


def message_of(case, folder):
    shutil.copytree(SOURCE, folder)
    CASES[case](folder)
    with pytest.raises(ModelError) as caught:
        read_everything(folder)
    return str(caught.value)


def golden():
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", maxsplit=1) for line in lines)


def test_every_case_has_a_golden_message():
    assert sorted(golden()) == sorted(CASES)


@pytest.mark.requirement("CK-21")
def test_rejections_are_the_golden_messages(judge, tmp_path):
    expected = golden()
    for case in CASES:
        folder = tmp_path / "v"
        message = message_of(case, folder)
        own, library, _ = expected[case].partition(" ...")  # then a library's text follows
        named = message.replace(str(folder), "FOLDER")
        judge.equal(case, named[: len(own)] if library else named, own)
        judge.equal(f"{case}: the folder is named", str(folder) in message, True)
        judge.equal(f"{case}: lines", len(message.splitlines()), 1)
        judge.below(f"{case}: characters", len(message), LONGEST, wrong=LONGEST + 1)
        shutil.rmtree(folder)


@pytest.mark.requirement("CK-21")
@pytest.mark.parametrize("revision", ["../x", "a/../../x", "/x", "a//b", ".", "a/."])
def test_a_revision_of_the_hub_is_no_path_out_of_the_cache(judge, revision):
    message = judge.refuses(
        revision,
        lambda: fetch_model(f"org/voice@{revision}"),
        ValueError,
        accepts=lambda: None,
    )
    judge.equal("named", revision in message, True)


@pytest.mark.requirement("CK-21")
def test_a_wav_file_is_regular_and_has_the_size_that_it_states(judge, tmp_path):
    from soprano.audio import Audio

    good = Audio(np.zeros(8, np.float32), 16000).save(tmp_path / "good.wav")
    raw = good.read_bytes()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "long.wav").write_bytes(raw[:40] + (2**31).to_bytes(4, "little") + raw[44:])
    (tmp_path / "short.wav").write_bytes(raw[:30])
    (tmp_path / "rate.wav").write_bytes(raw[:24] + bytes(4) + raw[28:])
    for name in ("pipe", "long", "short", "rate"):
        path = tmp_path / f"{name}.wav"
        message = judge.refuses(
            name, lambda p=path: read_wav(p), ValueError, accepts=lambda: read_wav(good)
        )
        judge.equal(f"{name}: named", str(path) in message, True)
