"""The foundation of all other packages: config, monitor file, names and tags in AWS, errors, files, and text.

Every package except `worker` and `localcloud` may import it; it imports only the public names of `worker`. Start with
`config_settings.py` and `errors.py`.
"""
