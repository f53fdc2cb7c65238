"""The paper's results anew, by our own software on simulated twins of its experiments.

Graas et al., "Just-in-time deep learning for real-time X-ray computed tomography", Sci Rep (2023). Its experiment (A)
is `tablet-soap`, (B) `tablet-gel`. `python -m benchmarks.paper list` tells what there is to run, `run` does it,
`figures` draws it.
"""
