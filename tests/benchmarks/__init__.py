"""What sessions cost: ours, the peers and a bare minimum, measured side by side.

`make bench` runs all of it; see docs/benchmarks.md for what came out. Nothing here is needed to
use or to test the package, and no timing decides a test.
"""
