"""Published models as data: a JSON file each, read by `tasks.configurations`."""
