"""Watching a model server: its Prometheus series, drift of its pictures, samples for the next dataset version."""
