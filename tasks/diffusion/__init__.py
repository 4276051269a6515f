"""Tasks of diffusion models. `TASKS` names the modules that register one."""

TASKS = ("pokemon", "dreambooth", "planted")
