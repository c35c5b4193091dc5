"""What gin files use for training besides the engine, and the commands that start the engine with a recipe."""
