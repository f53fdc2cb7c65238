"""What `tango-jit bench` measures, one suite a file: each has `measure(effort)`, an iterator of rows and curves."""
