"""`make bench`: what the gateway costs, each figure beside a limit measured in the same run (docs/performance.md)."""
