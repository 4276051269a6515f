"""Studies are data: what they must hold is that they can be run, and that a paper's table is the paper's."""

import pytest
import torch

from experiments.records.folder import fingerprint
from experiments.studies import STUDIES
from experiments.sweeping.expansion import description
from tasks.language.e2e import EndToEnd

# Hu et al. 2021, Table 3: millions of trained parameters, in the table's order (Adapter^H: the paper's formula counts
# layer norms that Houlsby's form as it is here does not train)
PRINTED = {
    "gpt2-medium": [354.92, 0.37, 11.09, 11.09, 25.19, 0.35, 0.35],
    "gpt2-large": [774.03, 0.88, 23.00, 0.77, 0.77],
}
# no integer rank gives 0.35M or 0.77M for LoRA (393,216 and 737,280), and no length does for a prefix
TOLERANCE = {"lora": 0.13, "prefix": 0.05}


@pytest.mark.parametrize("name", STUDIES)
def test_runs_of_a_study_differ_and_seeds_can_be_given(name):
    configs = STUDIES[name](None)
    assert len({fingerprint(config) for config in configs}) == len(configs)
    own = {config.train.seed for config in configs}
    given = STUDIES[name]((7,))
    assert {config.train.seed for config in given} == {7}
    assert len(given) * len(own) == len(configs)


@pytest.mark.parametrize("name", STUDIES)
def test_the_help_lists_every_study_and_its_header_has_command_time_and_outcome(name):
    assert f"  {name}: " in description()
    header = STUDIES[name].__doc__ or ""
    assert f"--study {name}" in header
    assert "Time: " in header
    assert "Outcome: " in header


@pytest.mark.parametrize("base", PRINTED)
def test_the_papers_table_trains_as_many_parameters_as_it_prints(base):
    configs = STUDIES["paper-e2e"]((0,))
    arms = [c.adapter for c in configs if isinstance(c.task, EndToEnd) and c.task.base == base]
    backbone = EndToEnd(base=base).meta_model().backbone
    for adapter, printed in zip(arms, PRINTED[base], strict=True):
        with torch.device("meta"):
            attachment = adapter.attach(backbone)
        trained = sum(parameter.numel() for parameter in attachment.parameters().values()) / 1e6
        assert trained == pytest.approx(printed, rel=TOLERANCE.get(adapter.name, 0.006)), adapter
        attachment.detach()
