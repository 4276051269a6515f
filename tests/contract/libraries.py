"""The contract of every method of peft and LyCORIS on each kind of model: `python -m tests.contract.libraries` writes
the table that `test_libraries` holds them to."""

import copy
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adapters.base import Adapter
from adapters.errors import AdapterError
from adapters.lycoris import Lycoris
from adapters.lycoris.algorithms import algorithms
from adapters.lycoris.layer import is_plain
from adapters.peft_method import PeftMethod
from tests.adapters.test_peft_method import ANY_LAYER, LINEAR_LAYERS
from tests.contract import test_contract, tiny
from tests.contract.tiny import output

TABLE = Path(__file__).with_name("libraries.md")
KINDS = ("gpt2", "llama", "unet")
TITLE = """# Methods of peft and LyCORIS under the contract

Written by `python -m tests.contract.libraries`, on tiny models; `tests/contract/test_libraries.py` compares. "works" is
every property of `tests/contract/test_contract.py` that applies: for peft all but merging, for LyCORIS also that its
own loader reads the exported file, on layers that it knows. A property that does not hold is named after "but": to
start from another output than the base's is part of a method. A refusal, ours or the library's, is quoted; "broken
upstream" is a failure inside the library that gives no reason.
"""
OTHERS: dict[str, dict[str, Any]] = {
    "lora": {"r": 2},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 1},
    "trainable_tokens": {"token_indices": [1, 2, 3]},
}
REFUSALS = (ValueError, TypeError, NotImplementedError)  # what a library raises for a layer that it does not know
# facts of a library's method rather than faults: it may start from another output than the base's
NAMES = {
    "initial_output_is_that_of_the_base": "starts from another output",
    "every_parameter_gets_a_gradient": "some parameters have no gradient at this point",
    "its_own_tools_load_it": "LyCORIS' own loader does not read its file (broken upstream)",
}


def methods() -> dict[str, Adapter]:
    """Every method of both libraries by its name here, with options that suit layers of width 32."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    options = ANY_LAYER | LINEAR_LAYERS | OTHERS
    names = sorted(kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
    of_peft: dict[str, Adapter] = {f"peft {name}": PeftMethod(name, options.get(name, {})) for name in names}
    of_peft |= {"peft lora, DoRA": PeftMethod("lora", {"r": 2, "use_dora": True})}
    of_peft |= {"peft lora, PiSSA": PeftMethod("lora", {"r": 2, "init_lora_weights": "pissa"})}
    return of_peft | {f"lycoris {algo}": Lycoris(algo) for algo in sorted(algorithms())}


def properties(adapter: Adapter) -> Iterator[tuple[str, Any]]:
    """The contract's tests for one method on one backbone, and the parameters that they take."""
    fixtures = {"adapter", "backbone", "twin", *(["mergeable"] if adapter.mergeable else [])}
    for name, test in vars(test_contract).items():
        taken = set(inspect.signature(test).parameters) if name.startswith("test_") else set()
        if "backbone" in taken and taken <= fixtures:
            yield name.removeprefix("test_"), test
    if isinstance(adapter, Lycoris):
        yield "its_own_tools_load_it", own_tools_load_it


def own_tools_load_it(adapter: Any, backbone: Any, twin: Any) -> None:
    """LyCORIS loads the exported file on the untuned model, where it knows the layers."""
    from lycoris import create_lycoris_from_weights

    attachment: Any = test_contract.attach_perturbed(adapter, backbone)
    try:
        (file,) = attachment.export("lycoris")
    except AdapterError:  # a Conv1D
        if all(map(is_plain, (update.projection for update in attachment.updates.values()))):
            raise
        return
    with TemporaryDirectory() as folder:
        file.save(Path(folder) / file.name)
        network, _ = create_lycoris_from_weights(1.0, str(Path(folder) / file.name), twin.model)
    assert len(network.loras) == len(attachment.updates)
    network.apply_to()
    with torch.no_grad():
        torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-4)


def outcome(adapter: Adapter, kind: str) -> str:
    """ "works", "works, but ..." with the properties that do not hold, or the sentence of a refusal or failure."""
    warnings.simplefilter("ignore")
    try:
        adapter.check_settings()
        adapter.attach(copy.deepcopy(tiny.built(kind)))
    except AdapterError as refused:
        reason = refused.__cause__
        return f"{'refused' if reason is None or isinstance(reason, REFUSALS) else 'broken upstream'}: {refused}"
    missing = []
    for name, test in properties(adapter):
        taken = inspect.signature(test).parameters
        given = {p: copy.deepcopy(tiny.built(kind)) if p in ("backbone", "twin") else adapter for p in taken}
        try:
            test(**given)
        except Exception:
            missing.append(NAMES.get(name, name.replace("_", " ")))
    return "works" if not missing else f"works, but: {'; '.join(missing)}"


def row(name: str, adapter: Adapter) -> str:
    cells = [outcome(adapter, kind).replace("|", "/") for kind in KINDS]
    same = len(set(cells)) == 1 and cells[0].startswith("refused")
    return f"| {name} | {' | '.join([cells[0], 'the same', 'the same'] if same else cells)} |"


def read_rows() -> dict[str, str]:
    """The table's rows by method."""
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    return {line.split("|")[1].strip(): line for line in lines if line.startswith(("| peft", "| lycoris"))}


def write_rows(rows: Mapping[str, str]) -> None:
    """The table with these rows, in the order of `methods`."""
    head = ["| method | GPT-2 | Llama | UNet |", "| --- | --- | --- | --- |"]
    TABLE.write_text("\n".join([TITLE, *head, *(rows[name] for name in methods() if name in rows), ""]))


if __name__ == "__main__":  # names restrict it to these rows; all take ten minutes
    known = read_rows()
    for name, adapter in methods().items():
        if name in sys.argv[1:] or not sys.argv[1:]:
            known[name] = row(name, adapter)
            write_rows(known)
