"""Load finished runs (base and adapter) without their datasets: for sampling, generating and exporting."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.precision import merges_exactly, stored_in, with_stored
from experiments.process.device import device_of
from experiments.records.folder import CONFIG, RunFolder
from experiments.records.replacement import complete_replacement
from tasks.pretrained.precision import QUANTISED

if TYPE_CHECKING:
    from adapters.base import Attachment
    from tasks.base import LoadedBase

LARGEST_SCALE = 1e6  # of an adapter's update


@dataclass(frozen=True)
class LoadedRun:
    """A finished run's adapter attached to its base.

    `pipeline()` samples pictures with diffusers; a language model has `model` and `tokenizer`. Both contain the
    adapter: `with loaded.attachment.disabled():` gives the untuned base.
    """

    folder: RunFolder
    record: Mapping[str, Any]
    config: RunConfig
    base: LoadedBase
    attachment: Attachment

    @property
    def model(self) -> Any:
        """The tuned model: a causal language model of transformers, or the UNet."""
        return self.base.backbone.model

    @property
    def tokenizer(self) -> Any:
        """The language model's tokenizer. Raises TaskError for a diffusion model."""
        return self.base.tokenizer

    def pipeline(self) -> Any:
        """A diffusers pipeline with the tuned UNet. Raises TaskError for a language model."""
        return self.base.pipeline()

    @property
    def label(self) -> str:
        """Method, size and the first digits of the fingerprint, each on its own line."""
        size = self.record["size"]
        lines = [] if size is None else [f"{size['field']} {size['value']}"]
        return "\n".join([self.config.adapter.name, *lines, self.record["fingerprint"][:6]])


def load_run(path: str | Path, device: str = "auto", *, in_fp32: bool = False) -> LoadedRun:
    """Load the finished run in a folder, `RUNS/TASK/METHOD/FINGERPRINT`.

    A base is read in fp32, in which an adapter merges exactly; one that the run had quantised is quantised again unless
    `in_fp32`. Raises UsageError if the run has not finished, or if its base has changed since.
    """
    from adapters.base import attach
    from adapters.interchange.tensors import read_tensors

    folder = RunFolder(Path(path))
    record = finished_record(folder)
    config = RunConfig.from_record(record["config"])
    on_device: Any = replace(config, train=replace(config.train, device=device))
    quantised = stored_in(config.task) in QUANTISED and not in_fp32
    task = config.task if quantised else with_stored(config.task, None)
    base = task.load_base(device_of(on_device))
    trained_on = record["facts"].get("base_revision")
    if trained_on is not None and not base.is_revision(trained_on):
        raise UsageError(
            f"'{path}' was trained on revision {trained_on} of its base, which is now {base.revision}: "
            "restore that base"
        )
    # with the run's seed: the method may draw something that it does not save; the adapter file already includes init
    with _generators_restored():
        attachment = attach(replace(config.adapter, init=None), base.backbone, config.train.seed)
    base.reserve_positions(config.adapter.positions_taken)
    attachment.load(read_tensors(folder.adapter_file)[0])
    base.backbone.model.eval()
    return LoadedRun(folder, record, config, base, attachment)


@contextmanager
def _generators_restored() -> Iterator[None]:
    """A context after which the caller's generators (of Python, numpy and torch) are in the state that they had."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def finished_record(folder: RunFolder) -> dict[str, Any]:
    """The record of a finished run. Raises UsageError if the folder holds something else."""
    complete_replacement(folder)
    record = folder.result() if folder.path.is_dir() else None
    if record is None and (folder.path / CONFIG).is_file():
        raise UsageError(
            f"the run '{folder.path}' has not finished: it is running, or it was interrupted and the command that "
            "started it resumes it"
        )
    if record is None:
        raise UsageError(f"'{folder.path}' is not a finished run: expected a folder RUNS/TASK/METHOD/FINGERPRINT")
    if record["status"] != "finished":
        raise UsageError(f"the run '{folder.path}' failed ({record['reason']}): choose one that finished")
    return record


def runs_and_prompts(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split positional arguments into folders of runs, which come first, and prompts.

    Raises UsageError if either is missing or a folder is misspelt.
    """
    # os.path.isdir, because Path.is_dir raises OSError for a prompt that is too long for a path
    count = next((i for i, word in enumerate(words) if not os.path.isdir(word)), len(words))
    runs, prompts = [Path(word) for word in words[:count]], list(words[count:])
    if not runs:
        given = f"'{words[0]}' is not a folder: " if words else ""
        raise UsageError(f"{given}expected RUN [RUN ...] PROMPT [PROMPT ...], runs first")
    for prompt in prompts:
        if "/" in prompt and " " not in prompt:
            raise UsageError(f"there is no run '{prompt}': expected RUNS/TASK/METHOD/FINGERPRINT")
    if not prompts:
        raise UsageError("there is no prompt: give one after the runs, in quotation marks")
    return runs, prompts


@dataclass(frozen=True)
class LabelledModel:
    """A model ready to use in `base`: a run's, or the untuned base. `facts` identify it."""

    label: str
    base: LoadedBase
    facts: Mapping[str, Any]
    sampling: Mapping[str, Any]  # of the run's evaluation


def load_models(
    runs: Sequence[Path], scale: float, with_base: bool, wanted: Literal["pictures", "texts"] | None = None
) -> Iterator[LabelledModel]:
    """Load each run's model in turn, its update multiplied by `scale`; `with_base` gives the untuned base first.

    One model is in memory at a time, and each is valid until the next is requested. Raises UsageError, before anything
    is loaded, for a run that has not finished or does not generate what is wanted.
    """
    for path in runs:
        task = RunConfig.from_record(finished_record(RunFolder(path))["config"]).task
        if wanted is not None and task.generates not in (None, wanted):  # None: found out once it is loaded
            command = {"pictures": "sample", "texts": "generate"}[task.generates]
            raise UsageError(
                f"the run '{path}' generates {task.generates}, not {wanted}: use python -m experiments.{command}"
            )
    bases: set[str] = set()
    for path in runs:
        run = load_run(path)
        facts = {"base": run.record["facts"].get("base"), "base_revision": run.base.revision}
        sampling = run.record["facts"].get("sampling", {})
        if with_base and run.base.revision not in bases:
            bases.add(run.base.revision)
            with run.attachment.disabled():
                yield LabelledModel("base", run.base, facts, sampling)
        if scale != 1:
            run.attachment.rescale(scale)
        if run.config.adapter.mergeable and merges_exactly(run.model):
            run.attachment.merge()  # the same output, faster
        names = {"method": run.config.adapter.name, "fingerprint": run.record["fingerprint"], "scale": scale}
        yield LabelledModel(run.label, run.base, {"run": str(path), **names, **facts}, sampling)
