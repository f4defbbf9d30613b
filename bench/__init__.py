"""Benchmarks that print ratios and one JSON line each; they are not tests."""
