"""The pipelines: stages wired into DAGs, no logic."""
