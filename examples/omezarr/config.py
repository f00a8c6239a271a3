"""OME-Zarr, for `run.py --project examples/omezarr`: the keys of Distributed-OMEZARRCreator's config.

What is not here has a default, and the config.py at the root explains it.
"""

APP_NAME = 'ExampleOMEZarr'
DOCKERHUB_TAG = 'user/distributed-omezarrcreator:0.9.1'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'

CLUSTER_MACHINES = 2                    # at most one a plate
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['c5.xlarge']
MACHINE_PRICE = 0.10
EBS_VOL_SIZE = 30                       # GB: room for a plate and for what becomes of it; real ones need 300

DOCKER_CORES = 1
CPU_SHARES = 4 * 1024
MEMORY = 7500

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + '_DeadMessages'
LOG_GROUP_NAME = APP_NAME

CHECK_IF_DONE_BOOL = 'True'             # a plate counts as done where its record says so, or as many files are there as
EXPECTED_NUMBER_FILES = 1000000         # no plate has: files alone never tell that a plate is whole
