"""What a step costs, against the peers and against the machine: `python -m tests.benchmarks`.

Time never decides a test. Wall-clock is compared here alone, side by side in one process; what is
exact (bytes, buffers, traces) is tested in tests/test_exact_costs.py.
"""
