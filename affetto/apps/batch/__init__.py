"""Many renders at once: manifests, a crash-safe store of jobs, persistent workers, and ways to spread them over machines.

The studio and `affetto batch` share it: both put jobs into a `JobStore` and let a `Runner` work through them.
"""
