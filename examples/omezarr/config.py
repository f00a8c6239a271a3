"""Config for OME-Zarr, with the keys of Distributed-OMEZARRCreator. Use it with `run.py --project examples/omezarr`.

Constants that are missing here have defaults; the config.py at the root explains them.
"""

APP_NAME = 'ExampleOMEZarr'
DOCKERHUB_TAG = 'user/distributed-omezarrcreator:0.9.1'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'

CLUSTER_MACHINES = 2                    # at most one per plate
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['c5.xlarge']
MACHINE_PRICE = 0.10
EBS_VOL_SIZE = 30                       # GiB, for a plate and its OME-Zarr; real plates need about 300

DOCKER_CORES = 1
CPU_SHARES = 4 * 1024
MEMORY = 7500

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + '_DeadMessages'
LOG_GROUP_NAME = APP_NAME

CHECK_IF_DONE_BOOL = 'True'             # a plate is skipped if a document in the bucket says that it is complete,
EXPECTED_NUMBER_FILES = 1               # because the number of files cannot show it
