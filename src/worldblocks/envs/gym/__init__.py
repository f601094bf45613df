"""Any gymnasium environment."""
