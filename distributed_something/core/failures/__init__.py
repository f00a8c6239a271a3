"""What to do about the failures that AWS reports, apart from how to recognize them, which is in `core/aws_errors.py`.

May be imported by everything above `core`. Start reading with `remedies.py`.
"""
