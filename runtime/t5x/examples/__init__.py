"""Example models: their networks are the student's (fsa_jax.models.t5), under the names that T5X's gin files use."""
