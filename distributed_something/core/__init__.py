"""What every other package builds on: the config, the monitor file, names and tags in AWS, errors, files, and text.

Every package but `worker` and `localcloud` may import it; it imports only the public names of `worker`. Start reading
in `config_settings.py` and `errors.py`.
"""
