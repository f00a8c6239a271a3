"""The config for Fiji, used by `run.py --project examples/fiji`. It has the keys of Distributed-Fiji.

Constants that are missing here have default values, which the config.py at the root explains.
"""

APP_NAME = 'ExampleFiji'
DOCKERHUB_TAG = 'user/distributed-fiji:latest'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'

CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.large']
MACHINE_PRICE = 0.10
MOUNT_S3 = 'False'                      # 'True': parameters may refer to files in /home/ubuntu/bucket

DOCKER_CORES = 1
CPU_SHARES = 2 * 1024
MEMORY = 7000

# The script: a file in worker/scripts/, a key in the bucket, an s3:// address, or https://…
SCRIPT_DOWNLOAD_URL = 'measure_nuclei.py'

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + '_DeadMessages'
LOG_GROUP_NAME = APP_NAME

CHECK_IF_DONE_BOOL = 'True'
EXPECTED_NUMBER_FILES = 2               # a job with fewer files counts as failed; Fiji's exit code does not show errors
MIN_FILE_SIZE_BYTES = 1
