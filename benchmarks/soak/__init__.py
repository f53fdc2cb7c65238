"""A simulated shift: an operator at work for half an hour, and what is left of the system afterwards."""
