"""From the command line and gin files to a function with its arguments: flags, checks of values, exit statuses."""
