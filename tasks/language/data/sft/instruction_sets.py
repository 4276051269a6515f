"""Instruction sets of the hub by the names that people type, and any other by "org/name"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tasks.bad_items import first_names
from tasks.errors import TaskError, first_line
from tasks.pretrained import hub

FILES = ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "*.csv", "README.md")  # README.md lists the configurations


class InstructionSet(NamedTuple):
    """A dataset of the hub; `config` is needed where it has several."""

    repository: str
    config: str | None = None
    answer_pattern: str | None = None


SETS = {
    "alpaca": InstructionSet("tatsu-lab/alpaca"),
    "alpaca-cleaned": InstructionSet("yahma/alpaca-cleaned"),
    "dolly": InstructionSet("databricks/databricks-dolly-15k"),
    "gsm8k": InstructionSet("openai/gsm8k", "main", r"#### (\S+)"),
    "lima": InstructionSet("GAIR/lima"),
    "metamathqa": InstructionSet("meta-math/MetaMathQA", None, r"The answer is: (.+)"),
    "no-robots": InstructionSet("HuggingFaceH4/no_robots"),
    "openhermes": InstructionSet("teknium/OpenHermes-2.5"),
    "smoltalk": InstructionSet("HuggingFaceTB/smoltalk", "all"),
    "tulu-3": InstructionSet("allenai/tulu-3-sft-mixture"),
    "ultrachat": InstructionSet("HuggingFaceH4/ultrachat_200k"),
}
SPLITS = {  # names of the hub's splits, the first that exists
    "train": ("train", "train_sft"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "test_sft"),
}


def instruction_set(data: str) -> InstructionSet | None:
    """What `data` names: a known set, or "org/name" or "org/name:config"; None if it has neither form."""
    repository, _, config = data.partition(":")
    known = SETS.get(data.lower())
    if known is not None or not hub.is_repository(repository):
        return known
    typed = InstructionSet(repository, config or None)
    return next((each for each in SETS.values() if each[:2] == typed[:2]), typed)


def read_hub(chosen: InstructionSet, data: str) -> tuple[dict[str, list[tuple[str, Mapping[str, Any]]]], str]:
    """The rows of each split that the dataset has, with their places, and its revision. Raises TaskError."""
    snapshot = hub.fetch("--task.data", data, [chosen.repository], FILES, "dataset")
    loaded = _load(snapshot.folder, chosen, data)
    names = {split: next((name for name in known if name in loaded), None) for split, known in SPLITS.items()}
    if names["train"] is None:
        raise TaskError(f"--task.data '{data}' has the splits {first_names(list(loaded))}; expected one called train")
    rows = {split: _rows(loaded[name], split) for split, name in names.items() if name is not None}
    return rows, f"{snapshot.revision} {chosen.config or ''}".strip()


def _load(folder: Path, chosen: InstructionSet, data: str) -> Mapping[str, Any]:
    """The splits as `datasets` reads them from the files; it runs no script of the folder."""
    import datasets

    try:
        return datasets.load_dataset(str(folder), name=chosen.config)  # pyright: ignore[reportReturnType]
    except Exception as broken:  # datasets raises a dozen types for a broken dataset
        reason = first_line(broken.__cause__ or broken)
        raise TaskError(
            f"--task.data '{data}' cannot be read ({reason}): expected parquet, JSON or CSV files with train and, "
            "where there are several, the configuration as 'org/name:configuration'"
        ) from broken


def _rows(split: Any, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{name} row {number}", row) for number, row in enumerate(split, start=1)]
