"""A folder of YAML batch specs in, numbered and indexed galleries of generated images out."""

__version__ = "0.1.0"
