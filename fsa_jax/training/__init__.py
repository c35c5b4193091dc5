"""What gin files use for training besides the engine: optimizers, schedules and initial weights."""
