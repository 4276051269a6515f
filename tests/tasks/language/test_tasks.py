"""The e2e, sft and style tasks meet the contract of a task, on a tiny random GPT-2."""

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from tasks.base import declare, task_registry
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.metrics import perplexity
from tasks.language.model import bases, likelihood
from tasks.language.model.generation import BeamSearch, NoRepeatInText, generate
from tasks.language.sft import Sft
from tasks.language.style import Style
from tasks.shuffling import shuffled_indices

CPU = torch.device("cpu")


@pytest.fixture(params=["e2e", "sft", "style"])
def prepared(request, tiny_base, text_file):
    if request.param == "sft":
        return Sft(base=tiny_base, train_items=20, test_items=4, drift_items=4, max_new_tokens=5).prepare(CPU)
    if request.param == "style":
        return Style(base=tiny_base, data=text_file, test_items=6, drift_items=4, max_length=64).prepare(CPU)
    return EndToEnd(base=tiny_base, train_items=12, test_items=4, drift_items=4, max_new_tokens=5).prepare(CPU)


def test_all_tasks_are_registered():
    assert {"e2e", "sft", "style"} <= task_registry().keys()


def test_batches_resume_exactly_and_follow_the_seed(prepared):
    whole = list(islice(prepared.batches(3, 0, 4), 6))
    resumed = list(islice(prepared.batches(3, 4, 4), 2))
    for expected, batch in zip(whole[4:], resumed, strict=True):
        assert torch.equal(expected.tokens, batch.tokens)
        assert torch.equal(expected.labels, batch.labels)
    other = next(prepared.batches(4, 0, 4))
    assert other.tokens.shape != whole[0].tokens.shape or not torch.equal(other.tokens, whole[0].tokens)


def test_every_item_once_an_epoch():
    order = [i for step in range(5) for i in shuffled_indices(0, step, 4, 10)]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_training_lowers_the_loss_and_drift_is_the_change_of_perplexity(prepared):
    base = prepared.evaluate()
    model = prepared.backbone.model
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for batch in islice(prepared.batches(0, 0, 4), 15):
        loss = prepared.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned = prepared.finish(prepared.evaluate(), base)
    assert tuned.figures["validation_loss"].value < base.figures["validation_loss"].value
    assert tuned.figures["validation_loss"].base == base.figures["validation_loss"].value
    before, after = (math.log(of.figures["familiar_perplexity"].value) for of in (base, tuned))
    assert tuned.figures["drift"].value == pytest.approx(after - before, abs=1e-5)


def test_figures_are_declared_with_their_unit(prepared):
    evaluation = prepared.evaluate()
    assert evaluation.figures.keys() <= prepared.metrics.keys()
    for name, figure in evaluation.figures.items():
        assert figure.unit == prepared.metrics[name].unit
        assert figure.extractor
        assert figure.n > 1
        assert figure.low is None or figure.low <= figure.value + 1e-9
    assert [row["item"] for row in evaluation.items] == list(range(len(evaluation.items)))


OF_JAVA = {"meteor", "rouge_l", "cider"}


def test_only_javas_metrics_and_drift_are_missing_before_finish_without_java(prepared):
    assert prepared.metrics.keys() - prepared.evaluate().figures.keys() <= {"drift", *OF_JAVA}


@pytest.mark.parametrize("cls", [EndToEnd, Sft, Style])
def test_a_metric_that_the_task_does_not_list_is_not_measured(cls, tiny_base, text_file, monkeypatch):
    settings: dict[str, Any] = {"data": text_file} if cls is Style else {"train_items": 12, "max_new_tokens": 5}

    def figures() -> set[str]:
        prepared = cls(base=tiny_base, test_items=2, drift_items=2, **settings).prepare(CPU)
        evaluation = prepared.evaluate()
        return set(prepared.finish(evaluation, evaluation).figures)

    everything = figures()
    assert everything >= cls.metrics.keys() - OF_JAVA
    for name in everything:
        others = [metric for metric in cls.metrics.values() if metric.name != name]
        with monkeypatch.context() as without:
            without.setattr(cls, "metrics", declare(*others))
            assert figures() == everything - {name}


def test_evaluating_twice_gives_the_same(prepared):
    first, second = prepared.evaluate(), prepared.evaluate()
    assert first.figures == second.figures
    assert first.items == second.items
    assert prepared.evaluation_key == prepared.evaluation_key


def test_the_loss_is_the_texts_mean_with_smoothing_by_hand(tiny_base):
    base = bases.load(tiny_base, CPU)
    prompt, text = base.prompt_ids("name[A]\n"), base.text_ids("A is here.")
    batch = likelihood.padded([(prompt, text), (prompt, text[:2])], CPU)
    logits = base.model(input_ids=torch.tensor([prompt + text])).logits[0]
    logs = log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    right = -logs[torch.arange(len(text)), torch.tensor(text)]
    smoothed = 0.9 * right + 0.1 * -logs.mean(dim=-1)
    expected = torch.cat([smoothed, smoothed[:2]]).mean()
    assert likelihood.cross_entropy(base.model, batch, 0.1).item() == pytest.approx(expected.item(), rel=1e-5)
    losses = likelihood.losses(base, [(prompt, text)])
    assert losses.nats[0] == pytest.approx(right.sum().item(), rel=1e-5)
    assert losses.tokens[0] == len(text)


def test_windows_predict_every_token_once():
    tokens = list(range(23))
    predicted = [token for _, text in likelihood.windows(tokens, 6) for token in text]
    assert predicted == tokens[1:]
    for (first,), text in likelihood.windows(tokens, 6):
        assert text[0] == first + 1
        assert len(text) <= 5


def test_perplexity_by_hand():
    import numpy as np

    losses = perplexity.Losses(np.array([3.0, 1.0]), np.array([2, 2]))
    assert perplexity.perplexity(perplexity.PERPLEXITY, losses, "x").value == pytest.approx(math.e)
    worse = perplexity.Losses(np.array([3.0, 3.0]), np.array([2, 2]))
    assert perplexity.drift(worse, losses, "x").value == pytest.approx(0.5)
    assert perplexity.drift(losses, worse, "x").value == pytest.approx(-0.5)


def test_greedy_search_is_the_argmax_and_padding_changes_nothing(tiny_base):
    base = bases.load(tiny_base, CPU)
    prompts = [base.prompt_ids("name[A]\n"), base.prompt_ids("name[Blue Door], area[riverside]\n")]
    beam_search = BeamSearch(num_beams=1, length_penalty=1.0, no_repeat_ngram_size=0, max_new_tokens=4)
    together = generate(base, prompts, beam_search)
    for prompt, text in zip(prompts, together, strict=True):
        tokens = list(prompt)
        for _ in range(4):
            tokens.append(int(base.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        expected = base.tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)
        assert text == expected.strip().split("\n")[0]


def test_repeats_of_the_prompt_are_allowed_and_of_the_text_are_not():
    ban = NoRepeatInText(2, prompt_length=3)
    scores = torch.zeros(1, 10)
    prompt, text = [1, 2, 3], [4, 5, 1]
    allowed = ban(torch.tensor([prompt + text]), scores.clone())
    assert torch.equal(allowed, scores)  # "1 2" occurs only in the prompt
    banned = ban(torch.tensor([[*prompt, *text, 4]]), scores.clone())
    assert banned[0, 5] == -math.inf
    assert torch.isfinite(banned).sum() == 9


def test_generated_texts_are_written_to_a_file(tiny_base, tmp_path):
    task = EndToEnd(base=tiny_base, train_items=5, test_items=2, drift_items=2, max_new_tokens=3, num_beams=1)
    task.prepare(CPU).evaluate(tmp_path / "samples")
    assert "reference:" in (tmp_path / "samples" / "texts.txt").read_text()


def test_bits_per_byte_is_the_loss_over_the_bytes(tiny_base, text_file):
    prepared = Style(base=tiny_base, data=text_file, test_items=3, drift_items=2).prepare(CPU)
    evaluation = prepared.evaluate()
    part = prepared.splits.test[0]
    tokens = torch.tensor([prepared.base.document_ids(part)[: prepared.max_length]])
    with torch.no_grad():
        first = cross_entropy(prepared.base.model(input_ids=tokens).logits[0, :-1], tokens[0, 1:], reduction="sum")
    assert evaluation.items[0]["nats"] > first.item() * 0.999
    nats = sum(row["nats"] for row in evaluation.items)
    expected = nats / math.log(2) / sum(len(part.encode()) for part in prepared.splits.test)
    assert evaluation.figures["bits_per_byte"].value == pytest.approx(expected)


def test_the_default_text_is_pythons_reference_and_its_splits_are_disjoint():
    from tasks.language.data.style_data import load

    splits = load("python-reference", 60)
    assert len(splits.test) == len(splits.validation)
    assert not set(splits.test) & set(splits.train)
    assert not set(splits.test) & set(splits.validation)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (EndToEnd(base="no-such/model"), "was not found in no-such/model"),
        (EndToEnd(label_smoothing=1.0), "label-smoothing"),
        (EndToEnd(num_beams=0), "num-beams"),
        (Style(max_length=1), "max-length"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(task, expected):
    with pytest.raises(TaskError, match=expected) as caught:
        task.prepare(CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"too short\n", b"\xff\xfe\x00"])
def test_an_unusable_text_is_refused_in_one_sentence(tiny_base, tmp_path, content):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(TaskError, match="expected") as caught:
        Style(base=tiny_base, data=str(file)).prepare(CPU)
    assert str(file) in str(caught.value)


def test_recommended_settings_are_training_settings():
    from dataclasses import fields

    from experiments.config import Train

    known = {f.name for f in fields(Train)}
    for task in (EndToEnd(), Style(), EndToEnd(base="gpt2"), Style(base="gpt2")):
        for adapter in ("lora", "full", "anything"):
            assert task.recommended(adapter).keys() <= known
            assert {"steps", "batch_size", "learning_rate"} <= task.recommended(adapter).keys()


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("meta-llama/Llama-3.2-1B", "llama-3.2-1b"),
        ("openai-community/gpt2", "gpt2"),
        ("OpenAI-Community/GPT2", "gpt2"),
        ("org/model", "org/model"),
        ("openai-community/gpt2@main", "openai-community/gpt2@main"),
    ],
)
def test_a_published_bases_hub_name_is_its_name_here(typed, name):
    assert Style(base=typed).base == name
    assert EndToEnd(base=typed).base == name
