"""What gin binds for a training beside the engine's own: optimizers, schedules and the weights to start from."""
