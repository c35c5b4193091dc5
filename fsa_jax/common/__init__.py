"""What every package of fsa_jax may use: records, paths, the terminal, output directories that appear complete."""
