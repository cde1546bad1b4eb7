"""A PyTorch state dict on disk -> arrays."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from soprano.errors import ModelError


def read_state_dict(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a PyTorch state dict as float32; no code in the file is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not a plain PyTorch state dict: {reason}") from None
