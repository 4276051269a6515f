"""Small synthetic run folders, so that their tables can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def figure(value: float, **fields: Any) -> dict[str, Any]:
    return {"value": value, "unit": "x1000", "n": 500, "extractor": "net-a", "better": "lower", "base": 1486.0} | fields


def record(
    method: str = "lora", size: float | None = 8, seed: int = 0, kid: float = 300.0, **fields: Any
) -> dict[str, Any]:
    field = {"field": "rank", "value": size} if size is not None else None
    return {
        "schema": 2,
        "status": "finished",
        "reason": None,
        "source": "run",
        "task": "drawings",
        "method": method,
        "fingerprint": f"{method}-{size}-{seed}",
        "seed": seed,
        "size": field,
        "config": {
            "adapter": {"name": method} | ({"rank": size} if size is not None else {}),
            "task": {"name": "drawings", "base": "mini"},
            "train": {"seed": seed, "steps": 400, "learning_rate": 0.005},
        },
        "primary_metric": "kid",
        "metrics": {
            "kid": figure(kid, floor=-1.0),
            "clip": figure(0.25 + kid / 1e5, better="higher", unit="", base=0.2),
        },
        "parameters": {"trainable": 1000 * int(size or 5400), "total": 5_400_000},  # without a size all weights train
        "adapter_bytes": 4000 * int(size or 50),
        "seconds": {"setup": 9.0, "train": 100.0, "evaluate": 60.0, "step_median": 0.25},
        "memory": {"peak_bytes": 1_200_000_000, "how": "peak resident set"},
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
        "git": {"commit": "abc", "dirty": False},
    } | fields


def write(runs: Path, content: dict[str, Any]) -> Path:
    folder = runs / content["task"] / content["method"] / content["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content["config"]))
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def write_items(folder: Path, scores: list[float], prompts: list[str] | None = None) -> None:
    import pandas as pd

    table = pd.DataFrame({"item": range(len(scores)), "clip": scores})
    if prompts is not None:
        table["prompt"] = prompts
    table.to_parquet(folder / "items.parquet")


def samples(folder: Path, count: int, kind: str = "") -> None:
    """Pictures of one colour each, which identifies their number and whether they are "real", the "base"'s or tuned."""
    from PIL import Image

    blue = {"": 200, "base": 100, "real": 50}[kind]
    (folder / "samples" / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (32, 32), (10 * (i + 1), 0, blue)).save(folder / "samples" / kind / f"{i}.png")


def steps(folder: Path, count: int, scale: float = 1.0) -> None:
    """A falling loss, and the validation loss of every tenth step."""
    lines = [
        {"step": step, "loss": scale / step, "validation_loss": 2 * scale / step if step % 10 == 0 else None}
        for step in range(1, count + 1)
    ]
    (folder / "steps.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def curve(folder: Path, values: dict[int, float], metric: str = "kid", n: int = 50, **more: Any) -> None:
    """A metric at some steps of the training, on `n` items; step 0 is the untuned base."""
    lines = [
        {"step": step, "seconds": 1.0, "metrics": {metric: {"value": value, "n": n, "extractor": "net-a"} | more}}
        for step, value in values.items()
    ]
    (folder / "curve.jsonl").write_text("\n".join(map(json.dumps, lines)))


def study(runs: Path) -> None:
    """Two ranks of one method and one method without a size, three seeds each; one failed and one unfinished run."""
    for seed, (small, large, whole) in enumerate([(400, 302, 299), (410, 300, 303), (405, 298, 301)]):
        write(runs, record("lora", 1, seed, small))
        write(runs, record("lora", 8, seed, large))
        write(runs, record("full", None, seed, whole))
    write(runs, record("lora", 8, 3, status="failed", reason="out of memory", metrics={}, primary_metric=None))
    unfinished = runs / "drawings" / "lora" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "config.json").write_text("{}")


def intrinsic_record(runs: Path, broken: bool = False) -> Path:
    """Write the result of a search over two seeds.

    DID crosses the target in both seeds, SAID lies above the range in one, the rank of LoRA below it in both.
    """

    def crossing(seed: int, at: float | None, below: int | None, reaching: int | None, **kid: float) -> dict[str, Any]:
        points = [
            {"size": int(k[1:]), "value": v, "reached": v <= 420, "low": v - 9, "high": v + 9} for k, v in kid.items()
        ]
        return {"seed": seed, "crossing": at, "below": below, "reaching": reaching, "points": points}

    def curve(
        name: str, crossings: list, value, low, high, span=(100, 100_000), field="dimension", **counts: int
    ) -> dict:
        head = {
            "name": name,
            "method": "random",
            "field": field,
            "range": span,
            "value": value,
            "low": low,
            "high": high,
        }
        return head | {"n": 2, "above": 0, "at_or_below": 0, "how": "made up", "seeds": crossings} | counts

    did = [
        crossing(0, 2500.0, 1778, 3162, d100=1300, d1000=700, d10000=390, d3162=410, d1778=500),
        crossing(1, 4000.0, 3162, 5623, d1000=740, d10000=395, d3162=450, d5623=405),
    ]
    said = [
        crossing(0, 9000.0, 5623, 10_000, d1000=800, d10000=410, d5623=600),
        crossing(1, None, 100_000, None, d100000=430),
    ]
    rank = [crossing(0, None, None, 1, d4=380, d1=415), crossing(1, None, None, 1, d4=385, d1=418)]
    measured = {"base": 1486.0, "n": 500, "unit": "x1000", "extractor": "net-a"}
    goals = [{"value": 300.0 + s, **measured, "run": f"drawings/full/{s}"} for s in (0, 4)]
    content = {
        "schema": 2,
        "task": "drawings",
        "metric": "kid",
        "better": "lower",
        "threshold": 0.9,
        "goal": "full",
        "seeds": [{"seed": s, "goal": goals[s], "target": 418.6 + 3.6 * s} for s in (0, 1)],
        "curves": [
            curve("DID", did, 3162.0, 1500.0, 6700.0),
            curve("SAID", said, None, 9000.0, None, above=1),
            curve("lora", rank, None, None, None, (1, 64), "rank", at_or_below=2),
        ],
    }
    file = runs / "drawings" / "intrinsic-abc.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{" if broken else json.dumps(content))
    return file
