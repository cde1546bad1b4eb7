"""Whether generated ids show each planted fault of the language model."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator

from conformance.diagnosis.generated_ids import OPTIONS, compare_utterances
from conformance.diagnosis.probes import Probed
from conformance.faults import catalogue
from conformance.golden.packs import find_pack, fixture_models
from conformance.subject import Subject

# Faults that no utterance of one row, of this length and without padding, can show.
NOT_SHOWN = (
    "language-model/trailing-ids-are-taken-for-padding",  # prompts of sentences end by [START]
    "language-model/last-column-instead-of-last-id",
    "language-model/padded-rows-become-nan",
)
UTTERANCES = 100


def language_model_faults() -> list[str]:
    """The faults of the language model itself."""
    return [
        fault.id
        for fault in catalogue().values()
        if fault.stage.name == "language model" and not fault.harmless and "LM-01" in fault.aims
    ]


def defects(name: str, utterances: int) -> int:
    """The defects with a fault, planted in this process."""
    fault = catalogue()[name]
    model = next(path for path in fixture_models() if path.name == fault.model)
    pack = find_pack(model)
    pack.networks()  # of the weights before the fault
    subject = fault.plant(Subject(find_pack=lambda *_: pack))
    count = 0
    for options in OPTIONS:
        probed = Probed(subject, "onnx_cpu", model, None)
        found = compare_utterances(probed, options, utterances).found
        count += len(found.defects)
    return count


def _in_child(name: str, utterances: int) -> int | str:
    try:
        return defects(name, utterances)
    except Exception as error:  # a fault may raise anything
        return f"{type(error).__name__}: {error}"


def counted(names: list[str], utterances: int = UTTERANCES) -> Iterator[tuple[str, int | str]]:
    """Each fault in a process of its own, with its defects or what it raised."""
    for name in names:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            yield name, pool.apply(_in_child, (name, utterances))


def main() -> int:
    """Print the table; the number of faults without a defect."""
    missed = 0
    for name, count in counted([n for n in language_model_faults() if n not in NOT_SHOWN]):
        missed += count == 0
        print(f"{name:52} {count}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
