"""The examples in README and CONTRIBUTING run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python_blocks(file: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / file).read_text(), flags=re.MULTILINE | re.DOTALL)


def execute(tmp_path: Path, program: str) -> str:
    """Run a program as a user would, in an empty folder; what it prints."""
    file = tmp_path / "program.py"
    file.write_text(program)
    completed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open({str(file)!r}).read())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_the_readme_example_runs_on_less_data(tmp_path):
    """The same lines; a smaller task and fewer steps keep it to seconds."""
    (program,) = python_blocks("README.md")
    small = "Pokemon(train_items=8, validation_items=2, test_items=12, drift_items=2, num_inference_steps=2)"
    for whole, less in {
        "Pokemon()": small,
        "steps=100": "steps=1",
        "(1, 4, 16)": "(1, 4)",
        "(0, 1, 2)": "(0,)",
    }.items():
        assert whole in program
        program = program.replace(whole, less)
    program = program.replace("seeds=(0,))", "seeds=(0,), steps=1)").replace(
        'frame("runs")', 'print(frame("runs").shape)'
    )
    assert execute(tmp_path, program).splitlines()[-1].startswith("(2, ")  # rank 4 ran once for both


def test_a_method_and_a_task_from_contributing_make_a_record(tmp_path):
    method, task = python_blocks("CONTRIBUTING.md")
    use = "from experiments import run\nprint(run(ScaledOutput(), Counting(), steps=2, batch_size=2).status)"
    assert execute(tmp_path, f"{method}\n{task}\n{use}").splitlines()[-1] == "finished"
