"""Small environments whose best and whose random score are known, and the ladder they make."""
