"""The training loop of the bundled parts: it resumes exactly, and only the training that it stopped."""

from dataclasses import replace

import pytest
import torch

from tasks.bundled.pictures import mixed_indices
from tasks.bundled.pretraining import Recipe, average_gradients, kept_start, on_processes, pretrain, remove_checkpoint
from tasks.errors import TaskError

RECIPE = Recipe(steps=12, learning_rate=1e-2, warmup_steps=2, checkpointing_steps=4, bf16=False)


class Interrupted(Exception):
    pass


def train(folder, recipe=RECIPE, inputs="data", until=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)

    def loss_of_step(step):
        if step == until:
            raise Interrupted
        rows = torch.randn(8, 3)  # `pretrain` seeds each step
        return (model(rows) - rows.sum(dim=1, keepdim=True)).square().mean()

    pretrain(model, loss_of_step, recipe, inputs, folder)
    return model.weight.detach()


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", until=6)
    assert torch.equal(train(tmp_path / "parts"), whole)
    assert (tmp_path / "whole/log.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize("change", [{"recipe": replace(RECIPE, steps=20)}, {"inputs": "other data"}])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change):
    with pytest.raises(Interrupted):
        train(tmp_path, until=6)
    with pytest.raises(TaskError, match="of another recipe or of other data: remove"):
        train(tmp_path, **change)


def test_saving_more_often_is_the_same_training(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, until=6)
    train(tmp_path, replace(RECIPE, checkpointing_steps=2))
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 1 + 4


def test_a_batch_has_its_share_of_every_set():
    index = mixed_indices(3, [10, 1000, 20], [5, 0, 4])
    assert len(index) == 9
    assert (index[:5] < 10).all()
    assert ((index[5:] >= 1010) & (index[5:] < 1030)).all()
    assert torch.equal(index, mixed_indices(3, [10, 1000, 20], [5, 0, 4]))
    assert not torch.equal(index, mixed_indices(4, [10, 1000, 20], [5, 0, 4]))


def refuse(rank, word):
    raise TaskError(f"no {word}")


def rank_of(rank):
    return {"rank": rank}


def gradient_of_half(rank):
    torch.manual_seed(0)
    model, rows = torch.nn.Linear(3, 2), torch.randn(8, 3)
    model(rows.chunk(2)[rank]).square().mean().backward()
    average_gradients(model)
    assert model.weight.grad is not None
    return {"gradient": model.weight.grad.tolist()}


def test_two_processes_have_the_gradient_of_the_whole_batch():
    torch.manual_seed(0)
    model, rows = torch.nn.Linear(3, 2), torch.randn(8, 3)
    model(rows).square().mean().backward()
    torch.testing.assert_close(torch.tensor(on_processes(gradient_of_half)["gradient"]), model.weight.grad)


def test_a_resumed_build_trains_the_weights_that_it_began_with(tmp_path):
    weights = tmp_path / "part/weights"
    weights.parent.mkdir()
    weights.write_text("before")
    start = kept_start(weights.parent, tmp_path / "work")
    train(tmp_path / "work")
    weights.write_text("trained")  # the build exports, and is stopped before it ends
    assert kept_start(weights.parent, tmp_path / "work") == start
    assert (start / "weights").read_text() == "before"


def test_weights_that_no_step_was_taken_from_are_copied_again(tmp_path):
    weights = tmp_path / "part/weights"
    weights.parent.mkdir()
    weights.write_text("before")
    start = kept_start(weights.parent, tmp_path / "work")
    weights.write_text("built anew")
    assert kept_start(weights.parent, tmp_path / "work") == start
    assert (start / "weights").read_text() == "built anew"


def test_a_finished_build_leaves_only_what_it_did_not_write(tmp_path):
    train(tmp_path / "part")
    (tmp_path / "part/model.safetensors").write_text("of another build")
    remove_checkpoint(tmp_path / "part")
    assert [file.name for file in (tmp_path / "part").iterdir()] == ["model.safetensors"]


def test_the_first_process_answers():
    assert on_processes(rank_of) == {"rank": 0}


def test_a_refusal_of_the_processes_is_one_sentence():
    with pytest.raises(TaskError, match=r"^no checkpoint$"):
        on_processes(refuse, "checkpoint")
