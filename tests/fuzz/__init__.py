"""Requests that nobody would write, against a running server: `make fuzz`.

A batch of requests is generated from a seed and the server's own `/openapi.json`, asked with
several in flight, and each answer is checked. Between two batches some plain requests, asked alone,
must still give the answers that they gave at the start.
"""
