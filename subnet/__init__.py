"""Who has which subnet? Leases, network config, allocation, renewal and the stores.

Knows nothing of the kernel.
"""
