"""Tests: unit (no Tango, no sockets), devices, system (processes and database), gpu, regressions."""
