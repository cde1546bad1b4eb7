"""The model that is measured: random weights of the published size, in each program's format.

Existing folders are reused.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from comparisons.agreement.checkpoints import PUBLISHED, write
from comparisons.agreement.compare_text import SENTENCES, read_cases
from soprano.export.bundle import export_bundle
from soprano.text import normalize

# [STOP] is never the likeliest id: every utterance reaches the maximum number of tokens.
ENDLESS = replace(PUBLISHED, name="endless", stop_gain=0.0)

# The blocks and the rounded activations of our own int8 class.
_BUILDER_OPTIONS = {
    "fp32": [],
    "int8": ["--extra_options", "block_size=128", "accuracy_level=4"],
}


@dataclass(frozen=True)
class Models:
    """Folders under `root`.

    `python` is the interpreter of the environment with ONNX Runtime GenAI; `code` is a hash of the
    code that exports the bundles.
    """

    root: Path
    python: str
    code: str

    @property
    def checkpoint(self) -> Path:
        def fill(folder: Path) -> None:
            write(ENDLESS, folder, [normalize(case.text) for case in read_cases(SENTENCES)])

        return self._once("checkpoint", fill)

    def own(self, backend: str, precision: str) -> Path:
        """The folder that a backend of ours opens: the checkpoint, or a bundle of it."""
        if backend == "pytorch":
            return self.checkpoint
        runtime = backend.removesuffix("_cpu")

        def fill(folder: Path) -> None:
            export_bundle(self.checkpoint, folder, to=runtime, precision=precision)

        return self._once(f"{runtime}-{precision}-{self.code}", fill)

    def genai(self, precision: str) -> Path:
        """The language model as written by the builder of ONNX Runtime GenAI."""

        def fill(folder: Path) -> None:
            command = [self.python, "-P", "-m", "onnxruntime_genai.models.builder"]
            command += ["-m", str(self.checkpoint), "-o", str(folder), "-c", str(self.root)]
            command += ["-p", precision, "-e", "cpu", *_BUILDER_OPTIONS[precision]]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"no model for ONNX Runtime GenAI: {done.stderr[-2000:]}")

        return self._once(f"genai-{precision}", fill)

    def _once(self, name: str, fill: Callable[[Path], None]) -> Path:
        folder = self.root / name
        if not folder.exists():
            unfinished = self.root / f"{name}.unfinished"
            if unfinished.exists():
                raise SystemExit(f"{unfinished} is left over from an interrupted run: remove it")
            fill(unfinished)
            unfinished.rename(folder)
        return folder
