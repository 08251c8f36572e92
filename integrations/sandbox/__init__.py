"""Stand-ins for the three backend services, for development and tests.

They know the HTTP contract and nothing of the gateway.
"""
