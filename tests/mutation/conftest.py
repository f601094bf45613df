"""Without the extra `mutation` what needs mutmut is left out."""

import importlib.util

NEEDS = ["command.py", "known.py", "mutate.py", "session.py", "test_mutation.py"]
collect_ignore = [] if importlib.util.find_spec("mutmut") else NEEDS
