"""`python -m pipeline` and the `pipeline` command."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
