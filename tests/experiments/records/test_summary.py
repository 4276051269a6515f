"""What a run prints when it ends: every number with its definition, each defined once."""

from adapters.lora import Lora
from experiments import Train, run
from experiments.records.summary import show

RECORD = {
    "status": "finished",
    "task": "tiny",
    "method": "lora",
    "seed": 0,
    "size": {"field": "rank", "value": 2},
    "metrics": {
        "kid": {"value": 0.25, "unit": "x 1000", "better": "lower", "meaning": "distance", "n": 9, "extractor": "clip"},
        "kid_eyes": {"value": 1.0, "unit": "x 1000", "better": "lower", "meaning": "part", "n": 9, "extractor": "clip"},
    },
    "parameters": {"trainable": 2_000, "total": 1_000_000},
    "adapter_bytes": 8_000,
    "memory": {
        "peak_bytes": 400_000_000,
        "how": "peak resident set",
        "categories": {"weights": 4e6, "activations": 2e6},
    },
    "flops": {"total": 3e9},
    "throughput": {"tokens_per_second": None, "samples_per_second": 12.0},
    "communication": {"predicted_bytes": 8_000},
    "seconds": {"setup": 1.0, "train": 60.0, "evaluate": 5.0, "step_median": 0.125},
    "training": {"steps": 4},
    "facts": {"positions_left": 1_000},
}


def test_every_number_is_shown_with_its_definition(tmp_path, capsys):
    show(RECORD, tmp_path)
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "kid: distance (x 1000)",
        "trained 2,000 of 1,000,000 parameters (0.20 %), adapter file 0.01 MB",
        "memory of a step's tensors at their peak: 6.0 MB (weights 4.0, activations 2.0)",
        "memory in all: 400.0 MB (peak resident set)",
        "per step: 3.0 GFLOP, 12 samples/s, 0.01 MB of gradients between processes; 1,000 positions left for input",
        "seconds: setup 1, training 60 (steps, validation and checkpoints), evaluation 5; a step alone takes 0.125 (",
    ):
        assert line in text
    assert "kid_eyes" not in text, "it is a part of kid"


def test_a_runs_own_record_is_shown(tiny_task, tmp_path, capsys):
    record = run(Lora(rank=2), tiny_task(), Train(device="cpu", steps=4), runs=tmp_path)
    show(record.data, record.folder)
    text = " ".join(capsys.readouterr().out.split())
    assert "test_loss: loss on test sequences (nats)" in text
    assert text.count("memory of a step's tensors at their peak") == text.count("memory in all") == 1


def test_the_noise_of_several_evaluations_is_shown(tmp_path, capsys):
    kid = RECORD["metrics"]["kid"] | {"evaluation": [0.2, 0.25, 0.3]}
    show(RECORD | {"metrics": {"kid": kid}}, tmp_path)
    text = " ".join(capsys.readouterr().out.split())
    assert "seed 0, mean of 3 evaluation seeds" in text
    assert "n 9, evaluation sd 0.05" in text
