"""The control plane: turns the four kinds into pods, status and the snapshot for gateways."""
