"""Mutation testing: mutmut's operators on the numeric core, each mutant in a fork of one pytest."""
