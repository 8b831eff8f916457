"""The governor of the thinking phase: what a request asks of it, and what it did."""
