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

# the generated parts of the reference, from the code
docs:
    uv run python docs/generate.py

# the main job on this machine, in ./pipeline-demo
demo:
    uv run pipeline demo

# docs/gallery.png anew: the demo's workspace in Debian's chromium
screenshot:
    uv run --group browser python docs/screenshot.py

# the gallery against its yardstick; `--images 1000000 --characters 10000` for the figures of benchmarks/README.md
bench-gallery *args="--images 200000 --characters 2000":
    uv run python -m benchmarks.gallery {{args}}

# all figures, against what a user would pick instead: a table, a JSON and plots in benchmarks/results (`--quick` to try)
bench *args:
    uv run python -m benchmarks {{args}}
    uv run --with matplotlib python -m benchmarks.plots

# a profile of the main job, as benchmarks/README.md reads it
profile *args:
    uv run --with py-spy python -m benchmarks.main_job --before "py-spy record --rate 200 --threads --format speedscope -o $PWD/profile.json --" {{args}}

# the long half of the proof that nothing is lost: every crash point, hundreds of kills, thousands of stories (docs/reliability.md)
torture *args:
    uv run pytest -m torture {{args}}
