"""The bundled language model: transformers' GPT2LMHeadModel, five blocks of width 256, with its own tokenizer.

`python -m tasks.bundled.build gpt-mini`, 45 to 47 minutes on one core.
"""

import json
from itertools import chain, islice
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.bundled import text
from tasks.bundled.bundled_bases import LANGUAGE_MODEL
from tasks.bundled.pretraining import Recipe, pretrain
from tasks.cache import digest
from tasks.language.data.templates import format_meaning

RECIPE = Recipe(steps=6000, learning_rate=1.5e-3, weight_decay=0.05, warmup_steps=300, checkpointing_steps=300)
EXPECTED = "45 to 47 minutes on one core"
BATCH = 8
DRAWN_SHARE = 0.8  # of the rows; the rest is the Bible
DRAWN_DOCUMENTS = 240_000
VOCABULARY, POSITIONS, WIDTH, BLOCKS, HEADS = 4096, 256, 256, 5, 4
HELD_OUT_DOCUMENTS = 200  # of each source, in held_out.json: what `e2e` and `style` measure drift on


def build(target: Path, work: Path) -> dict:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    bible = text.bible_chapters(held_out=False)
    drawn = list(text.drawn_documents(text.TRAINING_SEED, DRAWN_DOCUMENTS))
    tokenizer = text.train_tokenizer(chain(bible, islice(drawn, 30_000)), VOCABULARY, POSITIONS)
    streams = [text.TokenStream(tokenizer, drawn, at_lines=False), text.TokenStream(tokenizer, bible, at_lines=True)]
    end = tokenizer.vocab[text.END_OF_TEXT]
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=WIDTH, n_layer=BLOCKS, n_head=HEADS,
        activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, a fifth less time
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    held_out = {
        "drawn": list(text.drawn_documents(text.HELD_OUT_SEED, HELD_OUT_DOCUMENTS)),
        "bible": text.bible_chapters(held_out=True),
    }
    probes = {name: text.TokenStream(tokenizer, documents, at_lines=False) for name, documents in held_out.items()}

    def loss_of_step(step: int) -> Tensor:
        return next_token_loss(model, batch_of_step(streams, step))

    def probe() -> dict[str, float]:
        results = {f"loss_{name}": held_out_loss(model, stream) for name, stream in probes.items()}
        return results | {"names_copied": names_copied(model, tokenizer)}

    inputs = f"{digest(np.concatenate([stream.tokens for stream in streams]).tobytes())} {BATCH} {DRAWN_SHARE}"
    seconds = pretrain(model, loss_of_step, RECIPE, inputs, work, probe)
    model.eval()
    with torch.no_grad():
        figures = probe()
    folder = target / LANGUAGE_MODEL
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_held_out(folder, held_out)
    perplexities = {f"perplexity_{name}": round(float(np.exp(figures[f"loss_{name}"])), 3) for name in held_out}
    parameters = sum(p.numel() for p in model.parameters())
    return {"seconds": round(seconds), "parameters": parameters, "tokens": RECIPE.steps * BATCH * POSITIONS} | (
        figures | perplexities
    )


def batch_of_step(streams: list[text.TokenStream], step: int) -> Tensor:
    """Rows of both sources, (BATCH, POSITIONS), from the step's number alone."""
    generator = np.random.default_rng((text.TRAINING_SEED, step))
    drawn = int(generator.binomial(BATCH, DRAWN_SHARE))
    rows = [
        stream.rows(generator, count, POSITIONS) for stream, count in zip(streams, (drawn, BATCH - drawn), strict=True)
    ]
    return torch.from_numpy(np.concatenate(rows))


def next_token_loss(model: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token of rows (n, length)."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def held_out_loss(model: torch.nn.Module, stream: text.TokenStream, rows: int = 48) -> float:
    """Mean cross-entropy of the first tokens of a held-out stream, cut in rows of POSITIONS."""
    count = min(rows, len(stream.tokens) // POSITIONS)
    tokens = torch.from_numpy(stream.tokens[: count * POSITIONS].astype(np.int64)).view(count, POSITIONS)
    return round(float(np.mean([next_token_loss(model, part).item() for part in tokens.split(16)])), 4)


def names_copied(model: torch.nn.Module, tokenizer, count: int = 60) -> float:
    """Share of new names that the model would copy from the attributes into a text, token for token."""
    hits = 0
    for index in range(count):
        _, meaning, _ = text.described(Random(f"names {index}"))
        prompt = tokenizer(f"{format_meaning(meaning)}\nThis is").input_ids
        name = tokenizer(f" {meaning['name']}", add_special_tokens=False).input_ids
        predicted = model(input_ids=torch.tensor([prompt + name])).logits[0, len(prompt) - 1 : -1].argmax(dim=-1)
        hits += predicted.tolist() == name
    return round(hits / count, 3)


def write_held_out(folder: Path, held_out: dict[str, list[str]]) -> None:
    """Held-out documents of each source beside the weights, for drift."""
    first = {name: documents[:HELD_OUT_DOCUMENTS] for name, documents in held_out.items()}
    # chapters are long; their first lines suffice
    first["bible"] = ["\n".join(chapter.split("\n")[:6]) for chapter in first["bible"]]
    (folder / "held_out.json").write_text(json.dumps(first, indent=1) + "\n")
