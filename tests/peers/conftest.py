"""These modules import other libraries: `python tests/peers` runs them, pytest leaves them."""

collect_ignore_glob = ["*.py"]
