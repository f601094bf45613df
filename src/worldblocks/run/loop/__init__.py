"""Around the training loop of a recipe: schedules, progress, signals, all in one `with` block."""
