"""CK: what the host's PyTorch is set to has no effect on weights that are read and on outputs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from soprano.backends import open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError

from .checkpoints import SOURCE, judge_weights

REFERENCE = "soprano.backends.pytorch_reference:PyTorchReferenceBackend"


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="settings of PyTorch")


@contextlib.contextmanager
def changed(set_value, value, before):
    """A setting of the process, for a while."""
    set_value(value)
    try:
        yield
    finally:
        set_value(before)


def default_type(torch, dtype):
    return changed(torch.set_default_dtype, dtype, torch.get_default_dtype())


def matmuls_of_a_gpu(torch):
    return changed(
        lambda value: setattr(torch.backends.cuda.matmul, "allow_tf32", value), True, False
    )


# Each takes the module `torch`.
SETTINGS = {
    "bfloat16 by default": lambda torch: default_type(torch, torch.bfloat16),
    "float16 by default": lambda torch: default_type(torch, torch.float16),
    "float64 by default": lambda torch: default_type(torch, torch.float64),
    "device meta by default": lambda torch: changed(torch.set_default_device, "meta", None),
    "within a device": lambda torch: torch.device("meta"),
    "autocast": lambda torch: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda torch: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": lambda torch: torch.inference_mode(),
    "no gradients": lambda torch: torch.no_grad(),
    "gradients": lambda torch: torch.enable_grad(),
    "matmuls of a GPU": matmuls_of_a_gpu,
}


STRONGEST = ("device meta by default", "bfloat16 by default", "autocast")


def outputs(backend):
    """Outputs of every method that computes."""
    output = backend.prefill(np.array([[3, 1, 20, 2], [3, 1, 2, 0]]), np.array([4, 3]))
    found = {"prefill": output.logits, "hidden": output.hidden}
    kept = backend.fork(output.state)
    output = backend.step(np.array([20, 5]), output.state)
    state = backend.join(backend.select(output.state, [1, 0]), kept)
    found["step"] = backend.step(np.array([1, 2, 3, 4]), state).logits
    hidden = np.linspace(-1, 1, 2 * 5 * 24, dtype=np.float32).reshape(2, 5, 24)
    return {**found, "spectrum": backend.decode(hidden, np.array([5, 3]))}


@pytest.mark.requirement("CK-16")
@pytest.mark.parametrize(
    ("name", "setting"),
    [*(("pytorch", setting) for setting in SETTINGS), *((REFERENCE, s) for s in STRONGEST)],
)
def test_settings_of_the_host_do_not_change_outputs(judge, torch, name, setting):
    opened = open_backend(name, SOURCE)
    expected = outputs(opened)
    with SETTINGS[setting](torch):
        opened_within = open_backend(name, SOURCE)
        found = {"both within": outputs(opened_within), "called within": outputs(opened)}
    found["opened within"] = outputs(opened_within)
    for when, actual in found.items():
        for quantity, values in actual.items():
            judge.bits(f"{quantity}, {when}", values, expected[quantity])


@pytest.mark.requirement("CK-16")
@pytest.mark.parametrize("setting", STRONGEST)
def test_settings_of_the_host_do_not_change_a_pickled_decoder(judge, torch, tmp_path, setting):
    expected = ModelFolder.open(SOURCE).decoder_weights()
    for path in SOURCE.iterdir():
        if path.name != "decoder.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    state = {name: torch.tensor(values) for name, values in expected.items()}
    torch.save(state, tmp_path / "decoder.pth")
    with SETTINGS[setting](torch):
        actual = ModelFolder.open(tmp_path).decoder_weights()
    judge_weights(judge, actual, expected)


@pytest.mark.requirement("CK-16")
@pytest.mark.parametrize("setting", STRONGEST[:1])
def test_settings_of_the_host_do_not_change_an_export(judge, torch, tmp_path, setting):
    pytest.importorskip("onnxruntime", reason="an export is tried on its runtime")
    from soprano.export.bundle import export_bundle

    outside = export_bundle(SOURCE, tmp_path / "outside")
    with SETTINGS[setting](torch):
        within = export_bundle(SOURCE, tmp_path / "within")
    for path in filter(Path.is_file, sorted(outside.rglob("*"))):
        same = (within / path.relative_to(outside)).read_bytes() == path.read_bytes()
        judge.equal(f"{path.name} is the same", same, True)


def test_deterministic_algorithms_do_not_change_outputs(torch):
    expected = outputs(open_backend("pytorch", SOURCE))
    with changed(torch.use_deterministic_algorithms, True, False):  # it imports for seconds
        actual = outputs(open_backend("pytorch", SOURCE))
    for quantity, values in actual.items():
        assert np.array_equal(values, expected[quantity]), quantity


def test_the_host_s_random_numbers_are_not_used(torch):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    outputs(open_backend("pytorch", SOURCE))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.requirement("CK-16")
def test_a_lowered_precision_of_float32_is_refused(judge, torch):
    opened = open_backend("pytorch", SOURCE)
    with changed(torch.set_float32_matmul_precision, "medium", "highest"):
        for what, call in (
            ("open", lambda: open_backend("pytorch", SOURCE)),
            ("call", lambda: outputs(opened)),
        ):
            with pytest.raises(BackendError, match="below the precision of fp32"):
                call()
            judge.equal(f"{what} is refused", True, True)
    judge.equal("it works again", len(outputs(opened)), 4)
