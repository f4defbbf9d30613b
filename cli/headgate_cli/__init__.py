"""The `headgate` command: serve, keys, and the local cluster."""
