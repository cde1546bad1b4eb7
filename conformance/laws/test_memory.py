"""SY: the memory of a process that synthesises a long text."""

import pytest

from conformance.golden.packs import is_trained_voice
from conformance.judging import memory, tolerances
from conformance.judging.skips import NotDeclared
from soprano.checkpoint.folder import ModelFolder


@pytest.mark.requirement("SY-15")
def test_the_memory_of_a_process_grows_only_by_the_audio(backend, judge, model, request):
    if not memory.measurable() or not is_trained_voice(ModelFolder.open(model)):
        raise NotDeclared("it is measured on Linux with the trained voice")
    name = request.node.callspec.params["backend"][0]
    excess = memory.excess(name, model, backend.capabilities.precision)
    limit, wrong = tolerances.MEMORY_PER_SENTENCE, tolerances.KERNELS_KEPT
    judge.below("KiB a sentence beyond the audio", excess, limit, memory.LONG, wrong=wrong)
