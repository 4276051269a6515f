"""Studies are data: they must be runnable, and a paper's table must match the paper."""

import json

import pytest
import torch

from experiments.sweep import description
from experiments.sweeping.studies import STUDIES
from tasks.language.e2e import EndToEnd
from tasks.language.facts import Facts

# Hu et al. 2021, Table 3: millions of trained parameters, in the table's order (Adapter^H: the paper's formula counts
# layer norms that Houlsby's form does not train here)
PRINTED = {
    "gpt2-medium": [354.92, 0.37, 11.09, 11.09, 25.19, 0.35, 0.35],
    "gpt2-large": [774.03, 0.88, 23.00, 0.77, 0.77],
}
# no integer rank gives 0.35M or 0.77M for LoRA (393,216 and 737,280), nor does any prefix length
TOLERANCE = {"lora": 0.13, "prefix": 0.05}


@pytest.mark.parametrize("name", STUDIES)
def test_runs_of_a_study_differ_and_accept_seeds(name):
    configs = STUDIES[name](None)
    assert len({json.dumps(config.identity(), default=str) for config in configs}) == len(configs)
    seeds = {config.train.seed for config in configs}
    with_one_seed = STUDIES[name]((7,))
    assert {config.train.seed for config in with_one_seed} == {7}
    assert len(with_one_seed) * len(seeds) == len(configs)


@pytest.mark.parametrize("name", STUDIES)
def test_the_help_lists_the_study_and_its_docstring_has_command_time_and_outcome(name):
    assert f"  {name}: " in description()
    docstring = STUDIES[name].__doc__ or ""
    assert f"--study {name}" in docstring
    assert "Time: " in docstring
    assert "Outcome: " in docstring


@pytest.mark.parametrize("base", PRINTED)
def test_the_paper_e2e_study_trains_the_printed_numbers_of_parameters(base):
    configs = STUDIES["paper-e2e"]((0,))
    adapters = [c.adapter for c in configs if isinstance(c.task, EndToEnd) and c.task.base == base]
    backbone = EndToEnd(base=base).meta_model().backbone
    for adapter, printed in zip(adapters, PRINTED[base], strict=True):
        with torch.device("meta"):
            attachment = adapter.attach(backbone)
        trained = sum(parameter.numel() for parameter in attachment.parameters().values()) / 1e6
        assert trained == pytest.approx(printed, rel=TOLERANCE.get(adapter.name, 0.006)), adapter
        attachment.detach()


def test_every_pair_of_the_study_facts_is_seen_once_in_an_epoch():
    configs = [config.resolved() for config in STUDIES["facts"]((0,))]
    pairs = [config.task.pairs for config in configs if isinstance(config.task, Facts)]
    assert len(pairs) == len(configs)
    batches = [config.train.batch_size for config in configs if config.train.batch_size is not None]
    assert [count % batch for count, batch in zip(pairs, batches, strict=True)] == [0] * len(configs)
    assert {config.train.epochs for config in configs} == {200}
