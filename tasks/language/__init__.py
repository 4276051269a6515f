"""Fine-tuning of language models: data to text, style, and prompts with completions."""

TASKS = ("e2e", "sft", "style")  # modules that define tasks
