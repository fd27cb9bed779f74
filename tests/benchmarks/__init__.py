"""Wall-clock ratios, measured side by side in one process and printed: `pytest -m benchmark -s`.

Time never decides a test: these print, and assert exact things at most.
"""
