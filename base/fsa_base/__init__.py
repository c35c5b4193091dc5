"""What the engine and fsa_jax share: errors, files that are whole or absent, devices, runs, and the networks."""
