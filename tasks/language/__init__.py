"""Fine-tuning of language models: data to text and style."""

TASKS = ("e2e", "style")  # modules that define tasks
