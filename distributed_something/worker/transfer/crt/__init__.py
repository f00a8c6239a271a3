"""Downloads through `awscrt`, AWS's own S3 client, which takes half of boto3's processor time.

It is used for objects whose size and ETag are known, and only as an accelerator: whatever it does not fetch, for any
reason, the caller fetches with boto3, whose retries, redirects, and errors are the ones that count. Start reading in
`downloads.py`.
"""
