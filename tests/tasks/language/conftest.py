"""A tiny random GPT-2 with its own tokenizer, as a folder: a base that needs no network."""

import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tasks.bundled import text
from tasks.language.data import general_english
from tasks.language.metrics import java as java_programs

POSITIONS = 160


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> str:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny-gpt2")
    tokenizer = text.train_tokenizer(islice(text.drawn_documents(0, 300), 300), 700, POSITIONS)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("style") / "text.txt"
    file.write_text("".join(f"line {i} of a text about {i * i} sheep and {i % 7} goats\n" for i in range(1400)))
    return str(file)


@pytest.fixture(autouse=True)
def _short_general_english(monkeypatch):
    documents = list(text.drawn_documents(5, 6))
    monkeypatch.setattr(general_english, "texts", lambda count: documents[:count])


@pytest.fixture
def java() -> None:
    """For the tests that run Java; METEOR takes seconds to start."""
    if shutil.which("java") is None:
        pytest.skip("needs Java: install a Java runtime")


@pytest.fixture(autouse=True)
def _no_java(monkeypatch, request):
    if "java" not in request.fixturenames:
        monkeypatch.setattr(java_programs, "shutil", SimpleNamespace(which=lambda name: None))


@pytest.fixture(scope="session")
def e2e_csv(tmp_path_factory) -> Path:
    """Twenty meanings in the official format, each with up to two references."""
    from tasks.language.data.e2e_data import load

    file = tmp_path_factory.mktemp("e2e") / "devset.csv"
    items = load("restaurants", 20, 2).train
    rows = [f'"{item.line}","{reference}"' for item in items for reference in item.references[:2]]
    file.write_text("mr,ref\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")  # once: Python keeps the package into which the scripts are copied
def evaluate_cache(tmp_path_factory):
    """The evaluate library copies scripts to a cache before it imports them; here not to the user's."""
    from evaluate import config

    with pytest.MonkeyPatch.context() as patched:
        for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE"):
            patched.setattr(config, name, str(tmp_path_factory.mktemp(name)))
        yield
