"""The teacher: prompts, generation, storage and checking. Imports neither JAX nor TensorFlow."""
