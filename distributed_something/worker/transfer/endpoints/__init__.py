"""S3 servers other than AWS's, to which the keys `input_endpoint` and `output_endpoint` of a Job file lead.

A server gets only the credentials that the image has for it. It never gets those of the machine's role, whose session
token could be used by whoever receives it. Start with `clients.py`.
"""
