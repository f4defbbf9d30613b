"""Pure decisions: one folder for each kind, and what they promise the operator (`contract`)."""
