"""Scripts for other programs, as their users would write them: run with the names of the devices as arguments."""
