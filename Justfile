# What a developer does here; `just` alone checks everything.

# lint and test
default: lint test

# the whole suite, as the README says
test *args:
    uv run pytest {{args}}

# one file or test, in one process, with output
try *args:
    uv run pytest -n0 -x {{args}}

# types, style, walls between rooms
lint:
    uv run mypy
    uv run ruff check
    uv run ruff format --check
    uv run lint-imports

# let the formatter and the linter mend what they can
fix:
    uv run ruff check --fix
    uv run ruff format

# the suite with branch coverage and its gate
cover:
    PYTEST_ADDOPTS="--cov --cov-report=term-missing:skip-covered" uv run pytest

# the main job on this machine, in ./pipeline-demo
demo:
    uv run pipeline demo

# the figures of benchmarks/README.md
bench:
    uv run python -m benchmarks
