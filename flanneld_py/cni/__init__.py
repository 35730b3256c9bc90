"""Connecting pods: what the agent or its shim tells the CNI plugins of the host."""
