"""The rows of the table: who is asked what, beside whom, and the limit."""

from __future__ import annotations

from dataclasses import dataclass

from comparisons.speed.speakers import GENAI, PEER, PROCESS

OWN, INT8 = "onnx_cpu fp32", "onnx_cpu int8"

Turn = tuple[str, str]  # who, and the task


@dataclass(frozen=True)
class Row:
    """One measure; of several candidates of ours the quickest in a first try is measured."""

    name: str
    candidates: tuple[str, ...]
    task: str
    limit: float
    against: str | None = PEER  # None: the limit is absolute
    task_against: str = ""  # default: the same
    measure: str = "rtf"

    def turns(self, ours: str) -> list[Turn]:
        against = [(self.against, self.task_against or self.task)] if self.against else []
        return [(ours, self.task), *against]


ROWS = (
    Row("one utterance, onnx_cpu fp32", (OWN,), "one", 0.38),
    Row("one utterance, openvino_cpu fp32", ("openvino_cpu fp32",), "one", 0.55),
    Row("one utterance, int8", (INT8, "openvino_cpu int8"), "one", 0.16),
    Row("one utterance, pytorch", ("pytorch fp32",), "one", 0.75),
    Row("16 texts, fp32", (OWN,), "batch", 0.60),
    Row("16 texts, quantised", (INT8, "openvino_cpu int8", "onnx_cpu int4"), "batch", 0.45),
    Row("first streamed sound, fp32", (OWN,), "first", 0.45, measure="seconds"),
    Row("first streamed sound, int8", (INT8,), "first", 0.22, measure="seconds"),
    Row("whole stream of offline, fp32", (OWN,), "stream", 1.15, OWN, "one"),
    Row("whole stream of offline, int8", (INT8,), "stream", 1.15, INT8, "one"),
    Row("peak memory, fp32", (OWN,), "memory", 0.75, measure="peak_mb"),
    Row("peak memory, int8", (INT8,), "memory", 0.40, measure="peak_mb"),
    Row(
        "import soprano of import numpy",
        (PROCESS,),
        "import soprano",
        2.0,
        PROCESS,
        "import numpy",
        measure="seconds",
    ),
    Row("cold start to first sound, s", (PROCESS,), "say", 1.5, None, measure="seconds"),
    Row("LM step, onnx_cpu fp32", (OWN,), "step", 1.10, f"{GENAI} fp32", measure="seconds"),
    Row("LM step, onnx_cpu int8", (INT8,), "step", 1.10, f"{GENAI} int8", measure="seconds"),
)

# For each round asked for: more of what takes a moment, less of what takes minutes.
TIMES = {"first": 4, "import soprano": 4, "say": 2, "batch": 0.6, "memory": 0.6}
