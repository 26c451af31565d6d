"""The stages as Kubeflow Pipelines components: one folder each, glue only; the work is done by the library."""
