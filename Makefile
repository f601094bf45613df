# `make check` is what a change must pass; the other targets are its parts.

.PHONY: check format lint types test thorough docs serve

check:
	ruff format --check .
	ruff check .
	pyright
	pytest

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .

types:
	pyright

test:
	pytest

thorough:
	pytest --thorough --hypothesis-profile=thorough

# The docs extra (mkdocs and its plugins) is not part of dev: pip install -c constraints.txt -e ".[docs]".
# The variable silences an announcement that mkdocs-material prints at every start.
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

serve:
	NO_MKDOCS_2_WARNING=1 mkdocs serve
