"""Train, validate, export, benchmark and ship vision models: the library behind the components and pipelines."""

__version__ = "0.1.0"
