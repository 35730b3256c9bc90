"""A lab: nodes, pods, etcd and peers on one machine, and eyes that judge them from outside.

A node is a network namespace with an interface on one underlay switch; agents are real processes,
pods are connected by the real CNI plugins. What the agent claims is never asked for a verdict:
pings, `ip` and etcd's own API tell. Needs root of its network and mount namespaces.
"""
