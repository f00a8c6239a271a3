"""The numbers of a run's report: they are computed from the attempts, the machines, and how the jobs ended.

Start with `build_report.py`.
"""
