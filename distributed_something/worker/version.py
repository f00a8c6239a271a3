"""The version of this package, which pyproject.toml reads from here because the image contains only the worker."""

VERSION = "1.0.0"
