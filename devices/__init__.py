"""Tango doors to the services, and the command line."""
