"""The GPU of this machine: its driver's name gives its published rates."""

import subprocess

import pytest

from experiments.planning import installed_card as module
from experiments.planning.cards import known_card
from experiments.planning.installed_card import gpu_name


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 2080", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA H100 NVL", None),
    ],
)
def test_a_card_by_the_name_of_its_driver(name, card):
    known = known_card(name)
    assert (known and known.name) == card


@pytest.mark.parametrize(("status", "name"), [(0, "Tesla T4"), (6, None)])
def test_the_driver_is_asked_about_the_first_visible_gpu(monkeypatch, status, name):
    asked = []

    def answer(words, **options):
        asked.append(words)
        return subprocess.CompletedProcess(words, status, "Tesla T4\n", "")

    monkeypatch.setattr(module, "visible_gpus", lambda: ["3", "1"])
    monkeypatch.setattr(module.subprocess, "run", answer)
    assert gpu_name.__wrapped__() == name
    assert asked[0][-2:] == ["-i", "3"]


def test_without_a_gpu_or_a_driver_there_is_no_name(monkeypatch):
    monkeypatch.setattr(module, "visible_gpus", lambda: [])
    assert gpu_name.__wrapped__() is None
    monkeypatch.setattr(module, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(module, "QUERY", ("no-such-program",))
    assert gpu_name.__wrapped__() is None
