"""Stateful fakes of the seams (kernel, store, clock), and a lab of network namespaces.

Shipped, so that whoever builds on the agent tests against the same things as we do.
"""
