"""A planted answer: a teacher that differs from the base by an update of known rank, and what a student recovers."""
