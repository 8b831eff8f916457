"""Parts of the benchmarks that need no engine."""
