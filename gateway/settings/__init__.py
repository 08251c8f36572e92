"""Settings: `embedded` (make run, the default), `test` and `production`, each on top of `base`."""
