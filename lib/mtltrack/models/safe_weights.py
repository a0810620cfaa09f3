"""Weights as a safetensors file, with what is known of them and a digest in its metadata."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mtltrack.core.errors import CheckpointError

DIGEST = "sha256"
MARK = "digest"  # says that there is one: no single damage hides both
ABOUT = ("net_type", "epoch", "stage", "config", "classes", "alphabet")


def write_safetensors(content: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write weights so that `path` holds its old content or all of the new.

    Args:
        content: what `ABOUT` names is taken from it.
        tensors: the weights.
        path: where to write; its folder exists.
    """
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    about = {key: json.dumps(content[key]) for key in ABOUT if content.get(key) is not None}
    metadata = {"format": "pt", MARK: DIGEST, **about}
    header, data = _split(save(own, metadata))
    metadata[DIGEST] = _digest(header, data)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(save(own, metadata))
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return {"net": tensors} and what the file says about them; compare its digest, if it has one.

    Raises:
        CheckpointError: the file isn't what was written.
    """
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    own = DIGEST in metadata or metadata.get(MARK) == DIGEST
    if own and metadata.get(DIGEST) != _digest(*_split(path.read_bytes())):
        raise CheckpointError(
            f"{path} is damaged: its bytes aren't those that were written (their sha256 is another one)"
        )
    about = {key: json.loads(metadata[key]) for key in ABOUT if own and key in metadata}
    return {"net": load_file(path), **about}


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return a file's header and its data: 8 bytes with the header's length stand before both."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), memoryview(content)[start:]


def _digest(header: Mapping[str, Any], data: memoryview) -> str:
    """Return the sha256 of names, types, shapes, metadata but the digest, and data."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != DIGEST}
    digest = hashlib.sha256(json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
