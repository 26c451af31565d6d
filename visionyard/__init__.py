"""Train, validate, export, benchmark and ship vision models: the library behind Visionyard's components and pipelines."""

__version__ = "0.1.0"
