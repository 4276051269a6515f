"""Roles of layers: an unknown one is an error of one sentence that suggests the right one."""

from dataclasses import replace
from typing import Any

import pytest

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.lora import Lora
from tests.contract import tiny


@pytest.mark.parametrize(
    ("kind", "word", "suggestion"),
    [
        ("unet", "to_q", "use its role, query"),
        ("unet", "to_out.0", "use its role, output"),
        ("gpt2", "c_attn", "use its roles, query, key, value"),
        ("gpt2", "c_fc", "use its role, feed-forward.in"),
        ("llama", "q_proj", "use its role, query"),
        ("llama", "o_proj", "use its role, output"),
        ("gpt2", "q_proj", "use its role, query"),
        ("llama", "to_v", "use its role, value"),
        ("gpt2", "to_out.0", "use its role, output"),
        ("gpt2", "atention", "did you mean attention?"),
        ("llama", "Query", "did you mean query?"),
        ("gpt2", "nonsense", "the roles are attention"),
        ("gpt2", "convolution", "no layer with the role 'convolution'"),
    ],
)
@pytest.mark.parametrize("option", ["targets", "ranks"])
def test_unknown_role_suggests_the_right_one(option, kind, word, suggestion):
    roles: Any = {"targets": (word,)} if option == "targets" else {"ranks": {word: 2}}
    with pytest.raises(AdapterError) as error:
        attach(Lora(**roles), tiny.built(kind))
    message = str(error.value)
    assert suggestion in message
    assert message.startswith(f"--adapter.{option}: ")
    assert "\n" not in message


def test_a_part_that_only_another_packages_model_has(llama, monkeypatch):
    """Its name alone is a role, as for the parts of our models."""
    routers = [replace(p, role="feed-forward.router") if p.part == "gate" else p for p in llama.all_projections()]
    monkeypatch.setattr(llama, "all_projections", lambda: routers)
    attachment = attach(Lora(targets=("router",)), llama)
    assert attachment.facts["targets"] == {"feed-forward.router": 2}


@pytest.mark.parametrize("kind", tiny.BUILDERS)
def test_listed_roles_are_valid(kind):
    backbone = tiny.built(kind)
    with pytest.raises(LookupError) as error:
        backbone.projections("nonsense")
    for role in str(error.value).rpartition("the roles are ")[2].split(", "):
        assert backbone.projections(role)
