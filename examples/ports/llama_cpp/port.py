"""A port of the language model on llama.cpp, as npm distributes it: `libllama` by its C functions.

The model is a folder with a GGUF file: `soprano export --to gguf`.
`port.py BUG` plants one bug: half-precision-cache, position-repeated, first-output.
"""

import ctypes
import sys
from ctypes import POINTER, Structure, c_char_p, c_float, c_int8, c_int32, c_void_p
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
from messages import States, answer, array

BUG = sys.argv[1] if len(sys.argv) > 1 else ""
LIBRARIES = Path(__file__).parent / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
VERSION = "3.22.1"  # of the npm package, whose structures are described here
LENGTH = 1024
F32, F16 = 0, 1  # types of ggml
SILENT = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(lambda *message: None)


class Params(Structure):
    """`llama_model_params` or `llama_context_params`: 32-bit fields, and room for more of them."""

    _fields_ = [("fields", c_int32 * 128)]


# Indices of fields of `llama_context_params`.
N_CTX, N_BATCH, N_UBATCH, N_THREADS, N_THREADS_BATCH, FLASH, TYPE_K, TYPE_V = (
    0, 1, 2, 7, 8, 13, 26, 27,
)  # fmt: skip


class Batch(Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


def load_library():
    for name in ("libggml-base", "libggml.v*", "libllama.v*"):
        path = next(LIBRARIES.glob(f"{name}.so"))
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        if name.startswith("libggml.v"):
            library.ggml_backend_load_all_from_path(str(LIBRARIES).encode())
    for name, result, arguments in (
        ("llama_model_default_params", Params, []),
        ("llama_context_default_params", Params, []),
        ("llama_model_load_from_file", c_void_p, [c_char_p, Params]),
        ("llama_init_from_model", c_void_p, [c_void_p, Params]),
        ("llama_set_embeddings", None, [c_void_p, ctypes.c_bool]),
        ("llama_decode", c_int32, [c_void_p, Batch]),
        ("llama_get_logits_ith", POINTER(c_float), [c_void_p, c_int32]),
        ("llama_get_embeddings_ith", POINTER(c_float), [c_void_p, c_int32]),
        ("llama_model_get_vocab", c_void_p, [c_void_p]),
        ("llama_vocab_n_tokens", c_int32, [c_void_p]),
        ("llama_model_n_embd", c_int32, [c_void_p]),
        ("llama_free", None, [c_void_p]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(SILENT, None)
    library.llama_backend_init()
    return library


class Sequence:
    """A context of llama.cpp, which holds one KV cache."""

    def __init__(self, library, model, threads):
        params = library.llama_context_default_params()
        kind = F16 if BUG == "half-precision-cache" else F32
        for field, value in (
            (N_CTX, LENGTH), (N_BATCH, LENGTH), (N_UBATCH, LENGTH), (N_THREADS, threads),
            (N_THREADS_BATCH, threads), (FLASH, 0), (TYPE_K, kind), (TYPE_V, kind),
        ):  # fmt: skip
            params.fields[field] = value
        self.library, self.length = library, 0
        self.context = library.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")
        library.llama_set_embeddings(self.context, True)

    def read(self, ids):
        count, start = len(ids), self.length
        if start + count > LENGTH:
            raise ValueError(f"{start + count} ids are more than {LENGTH}")
        if BUG == "position-repeated" and start:
            start -= 1
        positions = range(start, start + count)
        one = (c_int32 * 1)(0)
        batch = Batch(
            count,
            (c_int32 * count)(*ids),
            None,
            (c_int32 * count)(*positions),
            (c_int32 * count)(*[1] * count),
            (POINTER(c_int32) * count)(*[ctypes.cast(one, POINTER(c_int32))] * count),
            (c_int8 * count)(*[1] * count),  # outputs after every id
        )
        if status := self.library.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode returned {status}")
        self.length += count

    def close(self):
        self.library.llama_free(self.context)


class OpenStates(States):
    def release(self, states):
        for handle in states:
            if sequence := self._values.pop(handle, None):
                sequence.close()


class Port:
    def __init__(self):
        self.states = OpenStates()

    def hello(self, protocol, model, precision, threads, folder):
        file = Path(model) / "model.gguf"
        if not file.exists():
            raise ValueError(f"{model} has no model.gguf")
        self.library, self.threads = load_library(), threads or 1
        params = self.library.llama_model_default_params()
        self.model = self.library.llama_model_load_from_file(str(file).encode(), params)
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {file}")
        vocabulary = self.library.llama_model_get_vocab(self.model)
        self.vocabulary = self.library.llama_vocab_n_tokens(vocabulary)
        self.width = self.library.llama_model_n_embd(self.model)
        return {
            "protocol": 1,
            "name": "llama.cpp",
            "version": VERSION,
            "capabilities": {"max_length": LENGTH, "precision": precision},
            "attest": {
                "threads": {"value": str(self.threads), "how": "inferred"},
                "device": {"value": "cpu", "how": "inferred"},
                "precision": {"value": "float32", "how": "inferred"},
                "cache precision": {"value": "float32", "how": "inferred"},
            },
            "methods": ["prefill_one", "step_one"],
        }

    def outputs(self, sequence, ids):
        if not ids or min(ids) < 0 or max(ids) >= self.vocabulary:
            raise ValueError(f"ids must be 0 to {self.vocabulary - 1}, got {ids}")
        sequence.read(ids)
        last = 0 if BUG == "first-output" else len(ids) - 1
        logits, hidden = (
            np.ctypeslib.as_array(get(sequence.context, last), (size,)).copy()
            for get, size in (
                (self.library.llama_get_logits_ith, self.vocabulary),
                (self.library.llama_get_embeddings_ith, self.width),
            )
        )
        state = self.states.keep(sequence)
        return {"logits": array(logits), "hidden": array(hidden), "state": state}

    def prefill_one(self, ids):
        return self.outputs(Sequence(self.library, self.model, self.threads), ids)

    def step_one(self, id, state):
        return self.outputs(self.states.take(state), [id])


if __name__ == "__main__":
    answer(Port())
