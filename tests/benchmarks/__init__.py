"""The cost of a step beside peer libraries and beside a C loop: `python -m tests.benchmarks`.

No test depends on time. Times are compared only here, side by side in one process. Exact costs
(bytes, buffers, traces) are tested in tests/test_exact_costs.py.
"""
