"""What the engine and fsa_jax share: errors, files that are complete or absent, devices, runs, and the networks."""
