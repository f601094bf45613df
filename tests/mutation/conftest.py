"""Without mutmut (the extra `mutation`) what imports it is left out."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("mutmut") else ["mutate.py", "test_mutation.py"]
