"""Word problems with exact answers: the default data of the task `sft`.

Things and colours are those of the bundled world that `gpt-mini` was pretrained on; it has seen no sums, no
comparisons and no counts. A completion says how the answer follows, and then "The answer is N."
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tasks.language.data.sft.conversations import Conversation, Message

ANSWER_PATTERN = r"The answer is ([^.\n]+)\."
PEOPLE = ("Ada", "Bruno", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Karl", "Lena")
NEW_PEOPLE = ("Mona", "Nils", "Olga", "Paul")  # in validation and test only
THINGS = ("books", "shoes", "toys", "hats", "clocks", "lamps", "flowers", "tools", "maps", "guitars", "stamps")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "orange", "purple", "pink", "golden")
LARGEST = 12  # of the numbers that a problem names
NEW_SHARE = 0.3  # share of the people in validation and test that do not occur in training

Problem = tuple[str, str]  # the question, and how its answer follows


def _total(random: Random, person: str, other: str) -> Problem:
    thing, (first, second) = random.choice(THINGS), random.sample(COLOURS, 2)
    a, b = _numbers(random)
    question = f"{person} has {a} {first} {thing} and {b} {second} {thing}. How many {thing} does {person} have?"
    return question, f"{a} and {b} make {a + b}. The answer is {a + b}."


def _left(random: Random, person: str, other: str) -> Problem:
    thing = random.choice(THINGS)
    a, b = sorted(_numbers(random), reverse=True)
    question = f"{person} has {a} {thing} and gives {b} to {other}. How many {thing} does {person} have now?"
    return question, f"{a} without {b} is {a - b}. The answer is {a - b}."


def _more(random: Random, person: str, other: str) -> Problem:
    thing = random.choice(THINGS)
    a, b = random.sample(range(1, LARGEST + 1), 2)
    question = f"{person} has {a} {thing} and {other} has {b}. Who has more {thing}?"
    most, least = max(a, b), min(a, b)
    return question, f"{most} is more than {least}. The answer is {person if a > b else other}."


def _owner(random: Random, person: str, other: str) -> Problem:
    thing, (first, second) = random.choice(THINGS), random.sample(COLOURS, 2)
    asked = random.choice(((first, person), (second, other)))
    question = f"{person} sells {first} {thing} and {other} sells {second} {thing}. Who sells {asked[0]} {thing}?"
    return question, f"{asked[1]} sells {asked[0]} {thing}. The answer is {asked[1]}."


def _count(random: Random, person: str, other: str) -> Problem:
    things = random.sample(THINGS, random.randint(2, 7))
    question = f"{person} sells {', '.join(things[:-1])} and {things[-1]}. How many kinds of things does {person} sell?"
    listed = ", ".join(f"{number} {thing}" for number, thing in enumerate(things, start=1))
    return question, f"{listed}. The answer is {len(things)}."


KINDS: tuple[Callable[[Random, str, str], Problem], ...] = (_total, _left, _more, _owner, _count)


def _numbers(random: Random) -> tuple[int, int]:
    return random.randint(1, LARGEST), random.randint(1, LARGEST)


def draw_problem(random: Random, new_share: float = 0.0) -> Problem:
    """A problem; `new_share` of the people are not used in training."""
    pools = [NEW_PEOPLE if random.random() < new_share else PEOPLE for _ in range(2)]
    person = random.choice(pools[0])
    other = random.choice([name for name in pools[1] if name != person])
    return random.choice(KINDS)(random, person, other)


def distinct_problems(count: int, seed: int, new_share: float, taken: set[str]) -> list[Conversation]:
    """Draw `count` problems whose questions are not in `taken`, and add them to it."""
    random, problems = Random(f"word problems {seed}"), []
    while len(problems) < count:
        question, answer = draw_problem(random, new_share)
        if question not in taken:
            taken.add(question)
            messages = (Message("user", question), Message("assistant", answer))
            problems.append(Conversation(f"problem {len(problems) + 1}", messages, (1,), False))
    return problems
