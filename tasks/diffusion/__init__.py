TASKS = ("pokemon",)
