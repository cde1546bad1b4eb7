"""The cases of the table: which program does what, beside which other, and the limit."""

from __future__ import annotations

from dataclasses import dataclass

from comparisons.speed.programs import GENAI, PEER, PROCESS

OWN, INT8 = "onnx_cpu fp32", "onnx_cpu int8"
DRAFTED = "onnx_cpu fp32+int8"  # with a draft of that class

Request = tuple[str, str]  # program and task


@dataclass(frozen=True)
class Case:
    """One measure. Of several candidates of ours, the fastest in one trial is measured."""

    name: str
    candidates: tuple[str, ...]
    task: str
    limit: float
    against: str | None = PEER  # None: the limit is absolute
    task_against: str = ""  # default: the same
    measure: str = "rtf"

    def requests(self, ours: str) -> list[Request]:
        against = [(self.against, self.task_against or self.task)] if self.against else []
        return [(ours, self.task), *against]


CASES = (
    Case("one utterance, onnx_cpu fp32", (OWN,), "one", 0.38),
    Case("one utterance, openvino_cpu fp32", ("openvino_cpu fp32",), "one", 0.55),
    Case("one utterance, int8", (INT8, "openvino_cpu int8"), "one", 0.16),
    Case("one utterance, int4", ("onnx_cpu int4",), "one", 0.12),
    Case("one utterance, openvino_cpu int8", ("openvino_cpu int8",), "one", 1.15, INT8),
    Case("one utterance, int8 draft", (DRAFTED,), "one", 0.33),
    Case("one utterance, int8 draft of fp32", (DRAFTED,), "one", 0.55, OWN),
    Case("one utterance, int4 draft of fp32", ("onnx_cpu fp32+int4",), "one", 0.55, OWN),
    Case("one utterance, pytorch", ("pytorch fp32",), "one", 0.75),
    Case("16 texts, fp32", (OWN,), "batch", 0.60),
    Case("16 texts, quantised", (INT8, "openvino_cpu int8", "onnx_cpu int4"), "batch", 0.45),
    Case("first streamed sound, fp32", (OWN,), "first", 0.45, measure="seconds"),
    Case("first streamed sound, int8", (INT8,), "first", 0.22, measure="seconds"),
    Case("whole stream of offline, fp32", (OWN,), "stream", 1.15, OWN, "one"),
    Case("whole stream of offline, int8", (INT8,), "stream", 1.15, INT8, "one"),
    Case("peak memory, fp32", (OWN,), "memory", 0.75, measure="peak_mb"),
    Case("peak memory, int8", (INT8,), "memory", 0.40, measure="peak_mb"),
    Case(
        "import soprano of import numpy",
        (PROCESS,),
        "import soprano",
        2.0,
        PROCESS,
        "import numpy",
        measure="seconds",
    ),
    Case("cold start to first sound, s", (PROCESS,), "say", 1.5, None, measure="seconds"),
    Case("LM step, onnx_cpu fp32", (OWN,), "step", 1.10, f"{GENAI} fp32", measure="seconds"),
    Case("LM step, onnx_cpu int8", (INT8,), "step", 1.10, f"{GENAI} int8", measure="seconds"),
)

# Rounds of a task, relative to those asked for: more of short tasks, fewer of long ones.
ROUNDS = {"first": 4, "import soprano": 4, "say": 2, "batch": 0.6, "memory": 0.6}
