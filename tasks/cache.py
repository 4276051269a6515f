"""Cache results of frozen parts by content: latents, text states, reference features, the base's evaluation.

Each result is one file, `<cache>/<kind>/<hash of the key>.safetensors`. The cache may be deleted at any time;
`ADAPTER_TESTBED_CACHE` moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.atomic import replacing
from tasks.distributed import all_of

if TYPE_CHECKING:
    from torch import Tensor

Result = tuple[dict[str, "Tensor"], Any]


def cache_folder() -> Path:
    folder = os.environ.get("ADAPTER_TESTBED_CACHE")
    if folder:
        return Path(folder)
    import platformdirs

    return platformdirs.user_cache_path("adapter-testbed")


def cached(
    kind: str, key: Any, compute: Callable[[], tuple[Mapping[str, Tensor], Any]], shipped: Path | None = None
) -> Result:
    """Return named tensors and a JSON value, from the cache if `key` (any JSON value) was computed before.

    `shipped` is a folder of results that need not be computed; their files are called NAME-DIGEST.safetensors, by
    `key_digest`. A damaged file is computed again, and a cache that cannot be written costs time but never fails a run.
    With several processes, all compute together unless every one of them found the file.
    """
    name = f"{key_digest(key)}.safetensors"
    file = cache_folder() / kind / name
    others = [] if shipped is None else sorted(shipped.glob(f"*-{name}"))
    stored = next(filter(None, map(_read, [*others, file])), None)
    on_every_rank = all_of(stored is not None)
    if stored is not None and on_every_rank:
        return stored
    tensors, value = compute()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with contextlib.suppress(OSError):
        _write(file, tensors, value)
    return tensors, value


def _read(file: Path) -> Result | None:
    """The stored result, or None if the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "pt") as content:
            value = json.loads(content.metadata()["json"])
            return {name: content.get_tensor(name) for name in content.keys()}, value  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _write(file: Path, tensors: dict[str, Tensor], value: Any) -> None:
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        save_file(tensors, temporary, metadata={"json": json.dumps(value)})


def key_digest(key: Any) -> str:
    """The digest of a key, any JSON value."""
    return digest(json.dumps(key, sort_keys=True).encode())


def digest(content: bytes | memoryview) -> str:
    """The first 24 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:24]


def tensor_digest(tensor: Tensor) -> str:
    """Digest of a tensor's type, shape and values."""
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return digest(head + tensor.detach().cpu().contiguous().numpy().tobytes())
