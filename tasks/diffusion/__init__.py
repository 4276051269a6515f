TASKS = ("pokemon", "dreambooth")
