"""Dashboard and alerts as code: `python -m deploy.dashboards` writes the files that are committed.

`panels` and `alerts` are plain values. `grafana` alone needs grafana-foundation-sdk.
"""
