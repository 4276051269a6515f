"""The sft task on a tiny random GPT-2: what counts in the loss, packing without cross-talk, answers, templates."""

import json
import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from adapters import Lora, PrefixTuning
from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict_training
from tasks.errors import TaskError
from tasks.language.data.sft.conversations import Conversation, Message
from tasks.language.metrics.answers import EXACT_MATCH, answer_of, compiled, matches, share_right
from tasks.language.model import bases, chat, likelihood
from tasks.language.model.packing import pack, packed
from tasks.language.sft import Sft

CPU = torch.device("cpu")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TURNS = (
    Message("user", "the sum?"),
    Message("assistant", "ten"),
    Message("user", "sure?"),
    Message("assistant", "yes"),
)


@pytest.fixture
def base(tiny_base):
    return bases.load(tiny_base, CPU)


def prepared(tiny_base, **settings):
    sizes: dict[str, Any] = {"train_items": 40, "test_items": 5, "drift_items": 3, "max_new_tokens": 4} | settings
    return Sft(base=tiny_base, **sizes).prepare(CPU)


def conversation(*messages: Message, is_chat: bool = True) -> Conversation:
    completions = tuple(i for i, message in enumerate(messages) if message.role == "assistant")
    return Conversation("line 1", messages, completions, is_chat)


def test_the_loss_is_the_completions_mean_by_hand(tiny_base):
    task = prepared(tiny_base)
    batch = next(task.batches(0, 0, 3))
    total, count = 0.0, 0
    for row in batch.tokens.tolist():
        ((prompt, text),) = [(p, t) for p, t in task.training if row[: len(p) + len(t)] == p + t]
        logits = task.backbone.model(input_ids=torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
        total += cross_entropy(logits, torch.tensor(text), reduction="sum").item()
        count += len(text)
    assert task.loss(batch).item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("at_once", [2**25, 1000])
@pytest.mark.parametrize("method", [None, Lora(rank=2), PrefixTuning(length=3)])
def test_packed_items_do_not_see_each_other(tiny_base, method, at_once):
    task = prepared(tiny_base, packing=True, max_length=128, logits_at_once=at_once)
    if method is not None:
        task.reserve_positions(getattr(method, "positions_taken", 0))
        attached = method.attach(task.backbone)
        for parameter in attached.parameters().values():
            torch.nn.init.normal_(parameter, std=0.3)
    assert task.packs is not None
    packs = task.packs[:3]
    assert max(map(len, packs)) > 1
    rows = [row for items in packs for row in items]
    expected = likelihood.losses(task.base, rows)
    batch = packed(packs, CPU)
    with torch.no_grad():
        assert task.loss(batch).item() == pytest.approx(expected.mean, rel=1e-5)
    assert likelihood.target_tokens(batch) == expected.tokens.sum()
    assert batch.read == sum(len(p) + len(t) for p, t in rows)


def test_a_plan_counts_the_mask_of_packed_rows():
    """In each row every token has its own keys: (rows, 1, length, length), in fp32 for each layer's backward pass."""
    train = Train(steps=1, batch_size=4, device="cpu", learning_rate=1e-4)
    configs = [RunConfig(Lora(), Sft(packing=on, max_length=256), train).resolved() for on in (False, True)]
    peaks = [predict_training(config).peak for config in configs]
    layers, mask = configs[0].task.meta_model().backbone.model.config.num_hidden_layers, 4 * 256 * 256
    assert 4 * layers * mask <= peaks[1] - peaks[0] <= 5 * layers * mask


def test_packs_hold_every_item_once_within_the_length():
    rows = [([1] * (i % 7 + 1), [2] * (i % 5 + 1)) for i in range(60)]
    packs = pack(rows, 20)
    sizes = [sum(len(p) + len(t) for p, t in items) for items in packs]
    assert max(sizes) <= 20
    assert sorted(row for items in packs for row in items) == sorted(rows)
    assert len(packs) == math.ceil(sum(sizes) / 20)  # these sizes fill the rows without loss


def test_packed_batches_resume_exactly(tiny_base):
    task = prepared(tiny_base, packing=True, max_length=128)
    assert task.train_items == task.facts["packed_rows"] < len(task.training)
    whole, resumed = list(islice(task.batches(1, 0, 2), 4)), list(islice(task.batches(1, 2, 2), 2))
    for expected, batch in zip(whole[2:], resumed, strict=True):
        assert torch.equal(expected.tokens, batch.tokens)
        assert expected.positions is not None
        assert batch.positions is not None
        assert torch.equal(expected.positions, batch.positions)


def test_a_template_frames_every_answer_and_its_end(base):
    base.tokenizer.chat_template = TEMPLATE
    first, second = chat.completion_rows(base, conversation(*TURNS))
    eos, text = base.tokenizer.eos_token, base.tokenizer.decode
    assert [text(ids) for ids in first] == ["<|user|>the sum?\n<|assistant|>", f"ten{eos}"]
    whole = f"<|user|>the sum?\n<|assistant|>ten{eos}\n<|user|>sure?\n<|assistant|>"
    assert [text(ids) for ids in second] == [whole, f"yes{eos}"]
    assert first[1][-1] == base.tokenizer.eos_token_id
    assert chat.prompt_ids(base, "the sum?", None) == first[0]


def test_without_a_template_lines_name_the_speaker(base):
    first, second = chat.completion_rows(base, conversation(Message("system", "be kind"), *TURNS))
    start, text = base.tokenizer.bos_token, base.tokenizer.decode
    assert text(first[0]) == f"{start}System: be kind\nUser: the sum?\nAssistant:"
    assert text(second[0]) == f"{start}System: be kind\nUser: the sum?\nAssistant: ten\nUser: sure?\nAssistant:"
    assert text(second[1]) == f" yes{base.tokenizer.eos_token}"


@pytest.mark.parametrize(
    ("prompt", "completion", "joined"), [("a:", "b", "a:\nb"), ("a: ", "b", "a: b"), ("a:", " b", "a: b")]
)
def test_a_line_break_joins_prompt_and_completion_unless_there_is_white_space(base, prompt, completion, joined):
    messages = (Message("user", prompt), Message("assistant", completion))
    ((before, after),) = chat.completion_rows(base, conversation(*messages, is_chat=False))
    assert base.tokenizer.decode([*before[1:], *after[:-1]]) == joined
    assert after[-1] == base.tokenizer.eos_token_id


def test_the_refusal_of_a_template_is_one_sentence(base):
    base.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(TaskError, match=r"line 1: the chat template of .* refuses .*roles must alternate"):
        chat.completion_rows(base, conversation(*TURNS))


def test_the_figures_of_a_chat_file(tiny_base, tmp_path):
    rows = [[*TURNS, Message("user", f"and {i}?"), Message("assistant", str(i))] for i in range(30)]
    rows = [[message._replace(content=f"{message.content} {i}") for message in row] for i, row in enumerate(rows)]
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(json.dumps({"messages": [m._asdict() for m in row]}) for row in rows))
    task = prepared(tiny_base, data=str(file), train_items=None)
    assert len(task.training) == 24 * 3
    assert task.facts["prompt_format"] == "lines of 'User:' and 'Assistant:'"
    evaluation = task.evaluate()
    assert evaluation.figures.keys() == task.metrics.keys() - {"drift", "answer_accuracy"}
    assert "--task.answer-pattern" in evaluation.not_measured["answer_accuracy"]
    losses = likelihood.losses(task.base, [row for item in task.test for row in item.rows])
    assert evaluation.figures["completion_perplexity"].value == pytest.approx(math.exp(losses.mean))
    assert sum(item["tokens"] for item in evaluation.items) == losses.tokens.sum()
    loaded = Sft(base=tiny_base, data=str(file)).load_base(CPU)
    assert loaded.prompt_ids(loaded.base, "hello?") == loaded.base.prompt_ids("User: hello?\nAssistant:")


def test_what_is_too_long_is_left_out_and_counted(tiny_base, tmp_path):
    rows = [{"prompt": f"{i} hats", "completion": "red hats " * (60 if i % 4 == 0 else 3)} for i in range(80)]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = prepared(tiny_base, data=str(file), train_items=None, test_items=8, max_length=64)
    kept = len(task.training) + len(task.validation) + len(task.test)
    kinds = {kind: count for kind, count in task.facts["left_out"].items() if "longer than the rows" in kind}
    assert sum(kinds.values()) == 80 - kept == 20
    assert kinds.keys() <= {
        "training completions longer than the rows",
        "validation completions longer than the rows",
        "test conversations longer than the rows",
    }
    with pytest.raises(TaskError, match="no completion of train fits 3 tokens"):
        prepared(tiny_base, data=str(file), max_length=3)


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"#### (\S+)", "a #### 1\n#### 1,250", "1250"),
        (r"#### (\S+)", "#### $12.50.", "12.50"),
        (r"The answer is ([^.\n]+)\.", "So. The answer is  Ada  Stone.", "Ada Stone"),
        (r"yes|no", "no, or yes", "yes"),
        (r"A: (\d+)|B: (\d+)", "B: 7", "7"),
        (r"#### (\S+)", "none", None),
    ],
)
def test_answers_of_texts(pattern, text, answer):
    assert answer_of(compiled(pattern), text) == answer


def test_shares_and_their_interval():
    assert matches(["a  b\n", "a b"], ["a b", "ab"]) == [True, False]
    figure = share_right(EXACT_MATCH, [True] * 8 + [False] * 2, "x")
    # Wilson's interval of 8 of 10 (Brown, Cai & DasGupta 2001): 0.490 to 0.943
    assert (figure.value, figure.n) == (0.8, 10)
    assert (figure.low, figure.high) == (pytest.approx(0.490, abs=5e-4), pytest.approx(0.943, abs=5e-4))


def test_a_pattern_that_finds_no_answer_is_refused_before_training(tiny_base, tmp_path):
    with pytest.raises(TaskError, match="is not a regular expression"):
        Sft(answer_pattern="(").check_settings()
    with pytest.raises(TaskError, match="finds no answer in 5 of 5 test completions"):
        prepared(tiny_base, answer_pattern="the result is (.*)")
