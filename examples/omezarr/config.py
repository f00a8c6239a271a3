"""The config for OME-Zarr, used by `run.py --project examples/omezarr`. It has the keys of Distributed-OMEZARRCreator.

Constants that are missing here have default values, which the config.py at the root explains.
"""

APP_NAME = 'ExampleOMEZarr'
DOCKERHUB_TAG = 'user/distributed-omezarrcreator:0.9.1'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'

CLUSTER_MACHINES = 2                    # no more than the number of plates
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

CHECK_IF_DONE_BOOL = 'True'             # a plate is skipped only if its record shows that it is done
EXPECTED_NUMBER_FILES = 1000000         # more than any plate has: files alone never prove that it is complete
