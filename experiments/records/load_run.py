"""Finished runs, put on their bases again without the data: what sampling, generation and export start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.folder import RunFolder

if TYPE_CHECKING:
    from adapters.base import Attachment
    from tasks.base import LoadedBase


@dataclass(frozen=True)
class LoadedRun:
    """A run whose adapter is attached to its base, as it was at the end of training."""

    folder: RunFolder
    record: Mapping[str, Any]
    config: RunConfig
    base: LoadedBase
    attachment: Attachment

    @property
    def label(self) -> str:
        """Method, size and the fingerprint's beginning, on lines of their own."""
        size = self.record["size"]
        shown = [] if size is None else [f"{size['field']} {size['value']}"]
        return "\n".join([self.config.adapter.name, *shown, self.record["fingerprint"][:6]])


def load_run(path: Path) -> LoadedRun:
    """The run in `path`. Raises UsageError where it has not finished, or its base is no longer the same."""
    from adapters.interchange.tensors import read_tensors
    from experiments.session import device_of

    folder = RunFolder(path)
    record = finished_record(folder)
    config = RunConfig.from_record(record["config"])
    here = replace(config, train=replace(config.train, device="auto"))
    base = config.task.load_base(device_of(here))
    trained_on = record["facts"].get("base_revision")
    if trained_on is not None and not base.is_revision(trained_on):
        raise UsageError(
            f"'{path}' was trained on the base {trained_on}, which is {base.revision} now: give it back its base"
        )
    attachment = config.adapter.attach(base.backbone)
    attachment.load(read_tensors(folder.adapter_file)[0])
    return LoadedRun(folder, record, config, base, attachment)


def finished_record(folder: RunFolder) -> dict[str, Any]:
    """The record of a finished run. Raises UsageError, saying what it is, for anything else."""
    record = folder.result() if folder.path.is_dir() else None
    if record is None:
        raise UsageError(f"'{folder.path}' is no finished run: expected a folder RUNS/TASK/METHOD/FINGERPRINT")
    if record["status"] != "finished":
        raise UsageError(f"the run '{folder.path}' failed ({record['reason']}): choose one that finished")
    return record


def runs_and_prompts(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Runs' folders first, then prompts. Raises UsageError where either is missing, or a folder is misspelt."""
    count = next((i for i, word in enumerate(words) if not Path(word).is_dir()), len(words))
    runs, prompts = [Path(word) for word in words[:count]], list(words[count:])
    if not runs:
        raise UsageError(f"'{words[0]}' is no folder: expected RUN [RUN ...] PROMPT [PROMPT ...], runs first")
    for prompt in prompts:
        if "/" in prompt and " " not in prompt:
            raise UsageError(f"there is no run '{prompt}': expected RUNS/TASK/METHOD/FINGERPRINT")
    if not prompts:
        raise UsageError("there is no prompt: give one after the runs, in quotation marks")
    return runs, prompts


@dataclass(frozen=True)
class Shown:
    """A model to look at, ready in `base`: a run's, or the untuned base; `facts` say which."""

    label: str
    base: LoadedBase
    facts: Mapping[str, Any]


def shown(runs: Sequence[Path], scale: float, with_base: bool) -> Iterator[Shown]:
    """Each run's model in turn, its update multiplied by `scale`; before a base's first run the untuned base.

    One model is in memory at a time, and what is given is valid until the next one.
    """
    bases_shown: set[str] = set()
    for path in runs:
        run = load_run(path)
        facts = {"base": run.record["facts"].get("base"), "base_revision": run.base.revision}
        if with_base and run.base.revision not in bases_shown:
            bases_shown.add(run.base.revision)
            with run.attachment.disabled():
                yield Shown("base", run.base, facts)
        if scale != 1:
            run.attachment.rescale(scale)
        if run.config.adapter.mergeable:
            run.attachment.merge()  # the same output, faster
        names = {"method": run.config.adapter.name, "fingerprint": run.record["fingerprint"], "scale": scale}
        yield Shown(run.label, run.base, {"run": str(path), **names, **facts})
