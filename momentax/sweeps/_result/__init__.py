"""Results of sweeps: ranks, selections, means, tables and files."""
