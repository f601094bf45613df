# `make check` is what a change must pass; the other targets are its parts.

.PHONY: check format lint types test thorough mutation docs serve

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

# Hours on one core, and goes on where it stopped; its options, for a part or a sample, are those of the command.
mutation:
	python tests/mutation
	python tests/mutation --page

# The docs extra (mkdocs and its plugins) is not part of dev: pip install -c constraints.txt -e ".[docs]".
# The variable silences an announcement that mkdocs-material prints at every start.
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

serve:
	NO_MKDOCS_2_WARNING=1 mkdocs serve
