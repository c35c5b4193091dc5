"""The ``fsa`` command. Each subcommand has its module, with heavy imports inside the function."""
