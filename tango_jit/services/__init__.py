"""What runs: one service a file joins an engine to its streams."""
