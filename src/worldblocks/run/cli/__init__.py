"""The command line of a recipe or a tool: options and their limits, errors, commands."""
