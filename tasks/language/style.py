"""Next-token modelling of a text in another style than the base's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.base import Metric, Task, declare
from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from tasks.language.model.loaded_base import LoadedLanguageModel
    from tasks.language.model.meta_model import LanguageMetaModel
    from tasks.language.style_task import TextModelling

METRICS = declare(
    Metric("perplexity", "lower", "per token", "perplexity of the text's kept parts"),
    Metric("bits_per_byte", "lower", "bits per byte", "the same, comparable between tokenizers"),
    Metric("familiar_perplexity", "lower", "per token", "perplexity of held-out text of the base's own kinds"),
    Metric("drift", "lower", "nats per token", "how much worse familiar text is predicted than by the base"),
    Metric("validation_loss", "lower", "nats per token", "loss on kept parts other than the test's"),
)


@dataclass(frozen=True)
class Style(Task, name="style"):
    """A text in another style: next-token modelling; perplexity on its kept parts, before and after."""

    metrics = METRICS
    primary_metric = "perplexity"
    input_size_field = "max_length"

    base: str = "gpt-mini"
    """The language model: the bundled "gpt-mini", a published one by its name ("gpt2", "gpt2-medium", "smollm2-135m",
    ...), a folder, or a hub name such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Take weights in PyTorch's old pickle format too, where there are no safetensors."""
    data: str = "python-reference"
    """The text: "python-reference" (Python's own language reference, kept from gpt-mini), or a text file in UTF-8."""
    max_length: int = 128
    """Tokens of a training row, at most."""
    test_items: int = 60
    """Kept parts (of about 1,000 characters) in validation and in test, at most."""
    drift_items: int = 60
    """Texts of each of the base's own kinds on which drift is measured."""

    def recommended(self, adapter: str) -> dict[str, Any]:
        from tasks.language.model.bases import recommended

        return recommended(self.base, self.name, adapter)

    def prepare(self, device: torch.device) -> TextModelling:
        from tasks.language.style_task import TextModelling

        for name in ("max_length", "test_items", "drift_items"):
            if getattr(self, name) < 2:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least 2, not {getattr(self, name)}")
        return TextModelling(self, device)

    def meta_model(self) -> LanguageMetaModel:
        from tasks.language.model.meta_model import LanguageMetaModel

        return LanguageMetaModel(self.base, self.max_length)

    def load_base(self, device: torch.device) -> LoadedLanguageModel:
        from tasks.language.model.loaded_base import LoadedLanguageModel

        search = {"num_beams": 4, "length_penalty": 1.0, "no_repeat_ngram_size": None, "max_new_tokens": self.max_length}
        return LoadedLanguageModel(
            self.base, device, search, lambda base, prompt: base.document_ids(prompt), True, self.allow_pickle
        )
