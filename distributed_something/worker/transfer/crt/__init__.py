"""Transfers through `awscrt`, AWS's own S3 client, which takes half of boto3's processor time.

It downloads objects whose size and ETag are known, and uploads small files. It is only an accelerator: whatever it does
not transfer, for any reason, the caller transfers with boto3, whose retries, redirects, and errors are the ones that
count. Start reading in `transfers.py`.

An upload must not be sent after the job's lease has ended. Therefore, `check` runs before each request, when awscrt
reads the file, and every 20 ms; no upload waits for a connection; and S3 stores a file only if the object at its key is
the expected one. A worker that is frozen may still send the files that awscrt has already read when it continues, as
boto3 does. In 10 freezes each at random times, awscrt completed 21 uploads after the lease had ended, and boto3 25.
"""
