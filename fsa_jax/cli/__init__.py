"""The ``fsa`` command. One module a subcommand; its heavy imports stand inside its function."""
