"""SY, AT: what a backend does in processes of its own: resident memory, and calls after a fork."""

import pytest

from conformance.golden.packs import is_trained_voice
from conformance.judging import forked, memory, tolerances
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import share
from soprano.checkpoint.folder import ModelFolder


@pytest.mark.requirement("SY-15")
def test_the_memory_of_a_process_grows_only_by_the_audio(backend, judge, model, request):
    if not memory.measurable() or not is_trained_voice(ModelFolder.open(model)):
        raise NotDeclared("it is measured on Linux with the trained voice")
    name = request.node.callspec.params["backend"][0]
    excess = memory.excess(name, model, backend.capabilities.precision)
    limit, wrong = tolerances.MEMORY_PER_SENTENCE, tolerances.KERNELS_KEPT
    judge.below("KiB a sentence beyond the audio", excess, limit, memory.LONG, wrong=wrong)


@pytest.mark.requirement("AT-05")
def test_a_forked_process_gives_the_outputs_of_its_parent_or_an_error(
    backend, judge, model, request
):
    if not share(request, ["fork"]):
        raise NotDeclared("it is judged on another model of the run")
    name = request.node.callspec.params["backend"][0]
    if not forked.available() or name.startswith("exec:"):
        raise NotDeclared("the port cannot be forked")
    answers = forked.answers(name, model, backend.capabilities.precision)
    good = (forked.SAME, forked.RAISES)
    bad = [answer for answer in answers if not answer.startswith(good)]
    judge.equal("answers of a forked process that are neither outputs nor an error", bad, [])
