"""Published models as data: a JSON file each, read by `tasks.pretrained.published.shapes`."""
