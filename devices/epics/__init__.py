"""EPICS: frames of its cameras. Needs the extra `epics`."""
