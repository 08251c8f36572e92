"""Ends with 0 if the server in this container answers: `python deploy/healthcheck.py /health/live`."""

# ruff: noqa: INP001 - a script, and no part of a package

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
# Django answers to the hosts it was told of only.
host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip(" .")
connection.request("GET", sys.argv[1], headers={"Host": host})
sys.exit(connection.getresponse().status != http.client.OK)
