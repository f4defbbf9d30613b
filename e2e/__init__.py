"""End to end: the demo, the suites and the cases that need a whole cluster."""
