"""`org/name[@revision]` -> a model folder, through the Hugging Face hub and its cache."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from soprano.errors import MissingExtraError, ModelError

# The files of a checkpoint or a bundle that synthesis needs.
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "decoder.safetensors",
    "decoder.pth",
    "lm_step*.onnx",
    "decoder.onnx",
    "manifest.json",
    "onnx/lm_step*",
    "onnx/decoder*",
    "onnx/model.safetensors",
    "openvino/lm_step.*",
    "openvino/decoder.*",
)

# No part begins with a dot: neither name leaves the folder that it is a part of.
_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w.-]*(/\w[\w.-]*)*))?")


def is_hub_name(model: str) -> bool:
    """Whether a model's name has the form `org/name` or `org/name@revision`."""
    return _NAME.fullmatch(model) is not None


def fetch_model(name: str) -> Path:
    """The folder of a published model, downloaded unless the cache holds it.

    Args:
        name: `org/name`, or `org/name@revision` for a branch, a tag or a commit. A commit in the
            cache needs no network. Anything else is looked up, and taken from the cache if the
            hub cannot be reached.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelError: there is no such repository or revision, access is denied, the hub cannot be
            reached and the cache does not hold the model, or the repository holds no model.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(f"a model of the hub is named org/name or org/name@revision, got {name!r}")
    folder = _download(match["repo"], match["revision"])
    for file in ("config.json", "tokenizer.json"):
        if not (folder / file).exists():
            raise ModelError(f"{name} has no {file}: not a model of this family")
    return folder


def _download(repo: str, revision: str | None) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors, utils
    except ImportError as error:
        raise MissingExtraError(
            f"{repo} needs huggingface_hub: pip install 'soprano-conformance[hub]' ({error})"
        ) from None
    requested = f"{repo}@{revision}" if revision else repo
    hide_progress = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    if hide_progress:
        utils.disable_progress_bars()
    try:
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES))
        )
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repo} has no revision {revision or 'main'!r}") from None
    except errors.GatedRepoError:
        raise ModelError(f"{repo} asks for an agreement: accept it on its page, log in") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {repo!r}, or it is private") from None
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"{requested} is not in the cache, and the hub cannot be reached ({_reason(error)})"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise ModelError(f"{requested} cannot be downloaded: {_reason(error)}") from None
    finally:
        if hide_progress:
            utils.enable_progress_bars()


def _reason(error: BaseException) -> str:
    """The first line of the error at the start of the chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
