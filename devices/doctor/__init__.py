"""What `tango-jit doctor` looks at and what it says about it: looks are apart from judgements, which are pure."""
