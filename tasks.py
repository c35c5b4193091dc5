"""The tasks of fsa_jax under the name that gin files use; a wheel provides the same name (docs/engine.md)."""

import fsa_jax.tasks  # noqa: F401
