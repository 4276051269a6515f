"""Rates that a search on a base has found: which one a run takes, and of which base the shipped ones are."""

import json

import numpy as np
import pytest

from adapters.base import adapter_registry
from tasks.base import task_registry
from tasks.bundled.bundled_bases import FOLDERS
from tasks.errors import TaskError
from tasks.pretrained.learning_rates import FILE, read_searches, searched_rate


def entry(size: int | None, chosen: float, **more) -> dict:
    same = {"task": "e2e", "method": "lora", "settings": {}, "base_revision": "this"}
    return same | {"size": size, "chosen": chosen} | more


SEARCHES = [
    *(entry(size, rate) for size, rate in ((1, 3e-3), (4, 1e-3), (64, 1e-4))),
    entry(4, 5e-4, settings={"alpha": "rank"}),
    entry(4, 7e-4, settings={"alpha": "rank", "targets": ["query", "value"]}),
    entry(None, 2e-3, method="full"),
]


def rate(size, settings=None, method="lora", task="e2e", revision="this"):
    return searched_rate(SEARCHES, lambda: revision, task, method, size, settings or {})


@pytest.mark.parametrize(
    ("size", "source"),
    [(1, "search"), (2, "interpolated"), (4, "search"), (8, "interpolated"), (63, "interpolated"), (64, "search")],
)
def test_a_rate_between_two_sizes_is_interpolated_on_log_scales(size, source):
    expected = np.exp(np.interp(np.log(size), np.log([1, 4, 64]), np.log([3e-3, 1e-3, 1e-4])))
    assert rate(size) == (pytest.approx(expected, rel=1e-3), source)


def test_a_rate_beyond_the_sizes_is_that_of_the_nearest():
    assert rate(1000) == (1e-4, "nearest")
    below = searched_rate(SEARCHES[1:3], lambda: "this", "e2e", "lora", 1, {})
    assert below == (1e-3, "nearest")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"alpha": "rank"}, (5e-4, "search")),
        ({"alpha": "rank", "dropout": 0.1}, (5e-4, "nearest")),
        ({"alpha": "rank", "targets": ["query", "value"]}, (7e-4, "search")),
        ({"alpha": "rank", "targets": ["all"]}, (5e-4, "nearest")),
        ({"dropout": 0.1}, (1e-3, "nearest")),
    ],
)
def test_other_settings_take_the_search_with_most_of_them(settings, expected):
    assert rate(4, settings) == expected


def test_a_method_without_sizes():
    assert rate(None, method="full") == (2e-3, "search")
    assert rate(2, method="full") is None, "the upper blocks alone were not searched"
    assert rate(None) is None


@pytest.mark.parametrize("other", [{"method": "prefix"}, {"task": "style"}, {"revision": "another"}])
def test_searches_of_other_tasks_methods_and_revisions_do_not_count(other):
    assert rate(4, **other) is None


def test_the_files_of_a_base_are_read_only_if_there_is_a_search():
    def unavailable():
        raise AssertionError

    assert searched_rate(SEARCHES, unavailable, "style", "lora", 4, {}) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        ('{"searches": 3}', "Expected `array`"),
        ('{"searches": [{"task": "e2e"}]}', "missing required field `method`"),
        (json.dumps({"searches": [entry(4, 1e-3, settings=None)]}), "Expected `object`, got `null`"),
        (json.dumps({"searches": [entry(4, -1.0)]}), "> 0"),
    ],
)
def test_another_file_is_one_sentence(tmp_path, content, says):
    file = tmp_path / FILE
    assert read_searches(file) == []
    file.write_text(content)
    with pytest.raises(TaskError, match="does not hold searches of learning rates") as error:
        read_searches(file)
    assert says in str(error.value)


@pytest.mark.parametrize("base", FOLDERS)
def test_shipped_searches_are_of_the_shipped_base(base):
    """After a change of a base's files the searches on it have to be repeated, or to be removed."""
    searches = read_searches(FOLDERS[base] / FILE)
    for search in searches:
        task = task_registry()[search["task"]](**{"base": base})
        assert search["base_revision"] == task.content_digests()["base"]
        assert search["method"].split()[0] in adapter_registry()
    arms = [json.dumps([search[name] for name in ("task", "method", "size", "settings")]) for search in searches]
    assert len(arms) == len(set(arms))


@pytest.mark.parametrize("base", FOLDERS)
def test_every_shipped_rate_is_better_than_close_neighbours_after_a_whole_run(base):
    for search in read_searches(FOLDERS[base] / FILE):
        losses = {trial["learning_rate"]: trial["validation_loss"] for trial in search["trials"]}
        known = [loss for loss in losses.values() if loss is not None]
        assert losses[search["chosen"]] == min(known)
        assert min(losses) < search["chosen"] < max(losses)
        below = max(rate for rate in losses if rate < search["chosen"])
        above = min(rate for rate in losses if rate > search["chosen"])
        assert above / below < 3.01  # a factor of sqrt(3) to each side
        assert (len(losses) >= 5, search["share"]) == (True, 1)
