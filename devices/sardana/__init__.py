"""The devices in Sardana: controllers for its Pool, macros for its MacroServer.

Sardana loads what is in the folders `controllers` and `macros` by their paths (`tango-jit sardana` shows them); what
they share is imported as part of this package. Nothing else of tango-jit imports Sardana.
"""
