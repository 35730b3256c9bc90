"""How fast the agent is, each figure beside a yardstick measured in the same run.

Real agents, a real etcd and the real kernel in the namespaces of a lab. Verdicts come from outside:
the kernel's notifications, pings, files and /proc, never from what the agent says of itself. No
test runs this; `python -m bench --help` does.
"""
