"""The runs that back the documentation: `*.yaml`, their reports in `results/`, and the page."""
