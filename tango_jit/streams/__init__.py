"""Messages on the wire, publishers and subscribers, and the accounting of frames."""
