"""Language models: data to text, style, and what they are measured with."""

TASKS = ("e2e", "style")  # the files that hold tasks
