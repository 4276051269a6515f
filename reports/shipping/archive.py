"""Records of runs as one compressed archive per task, which every report reads as it reads a folder of runs.

An archive holds what reports read and nothing large: no weights, samples or checkpoints. The same runs give the same
bytes.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.errors import ReportError

ENDING = ".tar.xz"
OF_A_RUN = ("config.json", "result.json", "steps.jsonl", "curve.jsonl", "costs.json")
ITEMS = "items.parquet"
OF_A_TASK = "intrinsic-*.json"
MAX_BYTES = 2**30  # of one archive's content


def write_archives(folder: Path, tasks: Sequence[str], out: Path, items: bool = False) -> Iterator[Path]:
    """Yield OUT/<task>.tar.xz of each task when it is written: its runs that have ended, costs, intrinsic dimensions.

    `tasks` are folders in `folder`; with `items`, the table of evaluated items too. Raises ReportError if `out` is
    `folder`, which could then no longer be read.
    """
    if out.resolve() == folder.resolve():
        raise ReportError(f"--output '{out}' is the folder of the runs: choose another for the archives")
    out.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        file = out / f"{task}{ENDING}"
        temporary = out / f".{task}.partial"
        try:
            with (
                lzma.open(temporary, "wb", preset=9 | lzma.PRESET_EXTREME) as compressed,
                tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
            ):
                for path in _files(folder / task, items):
                    _add(archive, path, str(path.relative_to(folder)))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        yield file


def _files(task: Path, items: bool) -> Iterator[Path]:
    """The files of a task's folder that are shipped, in order; an unfinished run has none."""
    yield from sorted(task.glob(OF_A_TASK))
    names = (*OF_A_RUN, *((ITEMS,) if items else ()))
    for run in sorted(task.glob("*/*")):
        if (run / "result.json").is_file() or (run / "costs.json").is_file():
            yield from (run / name for name in sorted(names) if (run / name).is_file())


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file without what differs between machines: owner, rights. Its time tells repeated runs apart."""
    content, entry = path.read_bytes(), tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(path.stat().st_mtime), 0o644
    archive.addfile(entry, io.BytesIO(content))


def unpacked(folder: Path) -> Path:
    """The folder itself, or if it holds archives a folder with their content (in the cache, unpacked once).

    Raises ReportError for a damaged archive, and for other runs beside archives, which no report would show.
    """
    archives = sorted(folder.glob(f"*{ENDING}"))
    if not archives:
        return folder
    loose = next((path for pattern in ("*/*/*/config.json", f"*/{OF_A_TASK}") for path in folder.glob(pattern)), None)
    if loose is not None:
        raise ReportError(
            f"'{folder}' holds archives of records and also records outside of them, such as '{loose}': move these to "
            "another folder"
        )
    digest = hashlib.sha256()
    for file in archives:
        digest.update(file.name.encode() + file.read_bytes())
    target = _cache() / "shipped-records" / digest.hexdigest()[:16]
    if not target.is_dir():
        _unpack(archives, target)
    return target


def _unpack(archives: Sequence[Path], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        for file in archives:
            _extract(file, temporary)
        os.replace(temporary, target)
    except OSError:
        if not target.is_dir():  # another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:xz") as archive:
            members = archive.getmembers()
            if sum(member.size for member in members) > MAX_BYTES:
                raise ReportError(
                    f"'{file}' unpacks to more than {MAX_BYTES} bytes, so it is not an archive of records"
                )
            archive.extractall(folder, members, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ReportError(
            f"'{file}' is not an archive of records ({error}): write it with `python -m reports ship`"
        ) from None


def _cache() -> Path:
    """The project's cache folder (as in `tasks.cache`)."""
    import platformdirs

    folder = os.environ.get("ADAPTER_TESTBED_CACHE")
    return Path(folder) if folder else platformdirs.user_cache_path("adapter-testbed")
