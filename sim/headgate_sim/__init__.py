"""Discrete-event simulator: drives the same pure decision code on public traces."""
