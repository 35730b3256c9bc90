"""What should the kernel look like for these leases? Pure plans, one module per backend."""
