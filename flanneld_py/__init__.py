"""How does the kernel become as planned, and stay so? The agent itself and its commands."""

__version__ = "0.1.0.dev0"
