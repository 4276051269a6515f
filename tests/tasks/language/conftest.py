"""A tiny random GPT-2 with its own tokenizer, as a folder: a base that every machine can make."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from tasks.bundled import text
from tasks.language.metrics import text_metrics
from tasks.language.model import likelihood

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


@pytest.fixture(autouse=True)
def _short_familiar_texts(monkeypatch):
    texts = list(text.drawn_documents(5, 6))
    monkeypatch.setattr(likelihood, "familiar_texts", lambda count: texts[:count])


@pytest.fixture(autouse=True)
def _no_java(monkeypatch, request):
    """METEOR's Java takes seconds to start, minutes on a busy machine: its own test alone is marked slow."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(text_metrics.shutil, "which", lambda name: None)


@pytest.fixture(scope="session")
def e2e_csv(tmp_path_factory) -> Path:
    """Twenty meanings, the first with two references, in the official form."""
    from tasks.language.data.e2e_data import load

    file = tmp_path_factory.mktemp("e2e") / "devset.csv"
    items = load("restaurants", 20, 2).train
    rows = [f'"{item.line}","{reference}"' for item in items for reference in item.references[:2]]
    file.write_text("mr,ref\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file
