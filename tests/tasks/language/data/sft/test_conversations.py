"""Forms of instruction data: each is read as the same conversation, or refused with a sentence that names the row."""

import csv
import json

import pytest

from tasks.errors import TaskError
from tasks.language.data.sft import conversation_data, instruction_sets
from tasks.language.data.sft.conversations import Message, Unreadable, conversation_of
from tasks.pretrained.hub import Snapshot

PAIR = (Message("user", "two?"), Message("assistant", "2"))
CHAT = [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "2"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "two?", "completion": "2"},
        {"Prompt": "two?", "completion": 2},
        {"instruction": "two?", "input": "", "output": "2"},
        {"instruction": "two?", "context": None, "response": "2", "category": "qa"},
        {"question": "two?", "answer": "2"},
        {"query": "two?", "response": "2", "type": "GSM"},
        {"messages": CHAT},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"conversations": [{"from": "human", "value": "two?"}, {"from": "gpt", "value": "2"}]},
        {"prompt": "ignored beside messages", "messages": CHAT},
        {"messages": [*CHAT, {"role": "user", "content": "thanks"}]},
    ],
)
def test_forms_of_one_pair(row):
    conversation = conversation_of("line 1", row)
    assert conversation.messages == PAIR
    assert (conversation.prompt, conversation.completion, conversation.completions) == ("two?", "2", (1,))
    assert conversation.is_chat == any(isinstance(value, list) for value in row.values())


def test_the_input_of_an_instruction_follows_it():
    assert conversation_of("", {"instruction": "Add.", "input": "1 1", "output": "2"}).prompt == "Add.\n1 1"


def test_completions_are_the_assistants_messages_of_the_completion_alone():
    turns = [Message("system", "s"), *PAIR, Message("user", "three?"), Message("assistant", "3")]
    rows = [message._asdict() for message in turns]
    assert conversation_of("", {"messages": rows}).completions == (2, 4)
    assert conversation_of("", {"prompt": rows[:4], "completion": rows[4:]}).completions == (4,)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "two? 2"}, r"has no prompt \(its columns: text\)"),
        ({"prompt": "two?"}, r"has no completion \(its columns: prompt\)"),
        ({"prompt": "two?", "completion": None}, "has an empty 'completion'"),
        ({"prompt": " ", "completion": "2"}, "has an empty 'prompt'"),
        ({"prompt": "two?", "completion": True}, "has no text in 'completion'"),
        ({"messages": []}, "has no list of messages"),
        ({"messages": ["two?"]}, "has a message in 'messages' that is not an object"),
        ({"messages": CHAT[:1]}, "has no assistant's message"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "role 'narrator'"),
        ({"messages": [{"role": "user", "content": None}, CHAT[1]]}, "has no text in 'content'"),
    ],
)
def test_rows_that_are_not_conversations(row, expected):
    with pytest.raises(Unreadable, match=expected):
        conversation_of("line 1", row)


def write(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def pairs(count, start=0):
    return [{"prompt": f"{i} and 1?", "completion": f"{i + 1}"} for i in range(start, start + count)]


def prompts(splits):
    return {name: [item.prompt for item in getattr(splits, name)] for name in ("train", "validation", "test")}


def test_one_file_is_split_by_prompt_and_what_is_not_used_is_counted(tmp_path):
    rows = [*pairs(40), *({**row, "prompt": row["prompt"].upper()} for row in pairs(40))]
    splits = conversation_data.load(write(tmp_path / "a.jsonl", rows), train_items=50, test_items=3)
    names = prompts(splits)
    assert {name: len(each) for name, each in names.items()} == {"train": 50, "validation": 3, "test": 3}
    keys = {name: {prompt.casefold() for prompt in each} for name, each in names.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    assert splits.facts["left_out"] == {
        "conversations of train beyond --task.train-items": 14,
        "conversations of validation beyond --task.test-items": 5,
        "conversations of test beyond --task.test-items": 5,
    }
    assert prompts(conversation_data.load(str(tmp_path / "a.jsonl"), 50, 3)) == names


def test_a_pair_is_the_same_in_every_format(tmp_path):
    """With the space that a completion starts with."""
    rows = [{"prompt": f"{n} + 2 =", "completion": f" {n + 2}"} for n in range(40)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    files = write(tmp_path / "a.jsonl", rows), str(tmp_path / "a.csv")
    first, second = (conversation_data.load(file, None, 5) for file in files)
    assert [pair.messages for pair in first.train] == [pair.messages for pair in second.train]


def test_a_folder_of_splits_gives_what_they_share_to_the_test(tmp_path):
    write(tmp_path / "train.jsonl", pairs(20))
    write(tmp_path / "valid.json", pairs(5, 15))
    (tmp_path / "test.csv").write_text("prompt,completion\n18 and 1?,19\nnew?,yes\n", encoding="utf-8")
    splits = conversation_data.load(str(tmp_path), None, 100)
    assert {name: len(each) for name, each in prompts(splits).items()} == {"train": 15, "validation": 4, "test": 2}
    assert splits.facts["left_out"] == {
        "conversations of train that are held out too": 5,
        "conversations of validation that are tested too": 1,
    }


def test_a_folder_without_a_test_takes_a_tenth_of_the_training_prompts(tmp_path):
    write(tmp_path / "train.jsonl", pairs(30))
    write(tmp_path / "dev.jsonl", pairs(4, 100))
    counts = {name: len(each) for name, each in prompts(conversation_data.load(str(tmp_path), None, 100)).items()}
    assert counts == {"train": 27, "validation": 4, "test": 3}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": ', "line 2"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}', "line 2, has no completion"),
        ('{"prompt": "a", "completion": "b"}', "has 1 prompt that can be used"),
        ("", "has 0 prompts"),
        ("[1]", "only objects"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path, content, expected):
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    with pytest.raises(TaskError, match=expected) as refused:
        conversation_data.load(str(file), None, 10)
    assert "\n" not in str(refused.value)


def test_bad_rows_are_skipped_and_counted_on_request(tmp_path):
    file = write(tmp_path / "a.jsonl", [*pairs(20), {"prompt": "x"}])
    splits = conversation_data.load(file, None, 10, "skip")
    assert splits.facts["left_out"] == {"unusable rows": 1}
    assert splits.facts["left_out_items"] == {"unusable rows": ["line 21: has no completion (its columns: prompt)"]}


def test_line_separators_inside_a_string_do_not_end_a_line(tmp_path):
    rows = [{"prompt": f"{i}\u2028", "completion": "b"} for i in range(10)]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert len(conversation_data.load(str(file), None, 10).train) == 8


def test_several_files_of_one_split_and_unknown_names(tmp_path):
    write(tmp_path / "train.jsonl", pairs(20))
    (tmp_path / "train.csv").write_text("prompt,completion\na,b\n")
    with pytest.raises(TaskError, match=r"train.jsonl, train.csv for one split"):
        conversation_data.load(str(tmp_path), None, 10)
    with pytest.raises(TaskError, match="expected 'word-problems'"):
        conversation_data.load("wordproblems", None, 10)


def test_an_instruction_set_of_the_hub_by_name(tmp_path, monkeypatch):
    from datasets import Dataset

    (tmp_path / "main").mkdir()
    rows = [{"question": f"{i}?", "answer": f"so #### {i}"} for i in range(30)]
    Dataset.from_list(rows).to_parquet(tmp_path / "main" / "train-00000.parquet")
    Dataset.from_list(rows[:3]).to_parquet(tmp_path / "main" / "test-00000.parquet")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
        "  - split: test\n    path: main/test-*\n---\n"
    )
    asked = []
    monkeypatch.setattr(
        instruction_sets.hub, "fetch", lambda *words: asked.append(words[2]) or Snapshot(tmp_path, "", "commit")
    )
    for name in ("gsm8k", "openai/gsm8k:main"):
        splits = conversation_data.load(name, None, 100)
        assert {key: len(each) for key, each in prompts(splits).items()} == {"train": 24, "validation": 3, "test": 3}
        assert splits.revision == "commit main"
        known = instruction_sets.instruction_set(name)
        assert known is not None
        assert known.answer_pattern == r"#### (\S+)"
    assert asked == [["openai/gsm8k"]] * 2
