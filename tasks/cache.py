"""Results of frozen parts, kept by content: latents, text states, reference features, the untuned base's figures.

One file a result, `<cache>/<kind>/<hash of the key>.safetensors`, written beside and renamed. The cache may be
deleted at any time. `ADAPTER_TESTBED_CACHE` names another place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import distributed

if TYPE_CHECKING:
    from torch import Tensor


def cache_folder() -> Path:
    named = os.environ.get("ADAPTER_TESTBED_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("adapter-testbed")


def cached(
    kind: str, key: Any, compute: Callable[[], tuple[Mapping[str, Tensor], Any]]
) -> tuple[dict[str, Tensor], Any]:
    """Named tensors and a JSON value: read where `key` (anything JSON can hold) was computed before, else computed.

    A damaged file is computed anew; a cache that cannot be written costs time, never a run. Processes that work
    together compute together, unless all of them find the file.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    file = cache_folder() / kind / f"{digest(json.dumps(key, sort_keys=True).encode())}.safetensors"
    found = None
    with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError), safe_open(str(file), "pt") as saved:
        value = json.loads(saved.metadata()["json"])
        found = {name: saved.get_tensor(name) for name in saved.keys()}, value  # noqa: SIM118
    everywhere = distributed.all_of(found is not None)
    if found is not None and everywhere:
        return found
    tensors, value = compute()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=file.parent, suffix=".writing")
        os.close(handle)
        save_file(tensors, beside, metadata={"json": json.dumps(value)})
        os.replace(beside, file)
    return dict(tensors), value


def digest(content: bytes | memoryview) -> str:
    """A short name of some bytes: the first 24 hex digits of their SHA-256."""
    return hashlib.sha256(content).hexdigest()[:24]


def tensor_digest(tensor: Tensor) -> str:
    """A short name of a tensor's type, shape and values."""
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return digest(head + tensor.detach().cpu().contiguous().numpy().tobytes())


def file_digest(*files: Path) -> str:
    """A short name of the files' contents, in the order given."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()[:24]
