"""Fine-tuning of language models: data to text, style, prompts with completions, random facts, planted answers."""

TASKS = ("e2e", "facts", "planted", "sft", "style")  # modules that define tasks
