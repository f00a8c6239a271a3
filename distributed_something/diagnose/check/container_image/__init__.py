"""Reads which processors the container image is for, from ECR or any other registry, without downloading the image.

Only `check` imports this package. Start with `check_image.py`.
"""
