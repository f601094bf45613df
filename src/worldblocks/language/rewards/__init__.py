"""Rewards as data: expressions of features, specs, menus, and the rewards of imagined rows."""
