"""Published models: one JSON file each with hub repositories and configuration, read by `shapes`."""
