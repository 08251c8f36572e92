"""`make run`: the whole system out of one folder and on one port, supervised by one process."""
