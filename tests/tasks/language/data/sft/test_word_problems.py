"""Word problems: the answer that a completion states is computed again from its question."""

import re

import pytest

from tasks.language.data.sft import conversation_data
from tasks.language.data.sft.word_problems import ANSWER_PATTERN, NEW_PEOPLE


@pytest.fixture(scope="module")
def splits():
    return conversation_data.load("word-problems", 300, 100)


def solved(question: str) -> str:
    """The answer, from the words of the question alone."""
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    first, other = re.findall(r"(?:^|and |to )([A-Z][a-z]+)", question)[0], re.findall(r"[A-Z][a-z]+", question)
    if "have now" in question:
        return str(numbers[0] - numbers[1])
    if "kinds of things" in question:
        return str(len(re.split(r", | and ", question.split(" sells ", 1)[1].split(".")[0])))
    if "Who has more" in question:
        return first if numbers[0] > numbers[1] else other[1]
    if "Who sells" in question:
        asked = re.findall(r"Who sells (\w+)", question)[0]
        return re.findall(rf"([A-Z][a-z]+) sells {asked}", question)[0]
    return str(sum(numbers))


def test_every_answer_is_right(splits):
    for item in (*splits.train, *splits.validation, *splits.test):
        (answer,) = re.findall(ANSWER_PATTERN, item.completion)
        assert answer == solved(item.prompt), item.prompt


def test_splits_share_no_question_and_the_test_has_new_people(splits):
    questions = [{item.prompt for item in getattr(splits, name)} for name in ("train", "validation", "test")]
    assert sum(map(len, questions)) == len(set().union(*questions)) == 500
    new = [any(person in question for person in NEW_PEOPLE) for question in questions[2]]
    assert any(new)
    assert not all(new)
    assert not any(person in question for person in NEW_PEOPLE for question in questions[0])


def test_a_draw_is_the_same_on_every_call_and_the_test_does_not_depend_on_the_training(splits):
    assert conversation_data.load("word-problems", 300, 100) == splits
    assert conversation_data.load("word-problems", 10, 100).test == splits.test
