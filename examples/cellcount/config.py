"""The cell-counting example as a project of its own, for `run.py --project examples/cellcount`.

Only what a config must hold: all other names have defaults, and the config.py at the root explains each.
"""

APP_NAME = 'CellCount'
DOCKERHUB_TAG = 'user/cellcount:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.large']
MACHINE_PRICE = 0.10
DOCKER_CORES = 2
CPU_SHARES = DOCKER_CORES * 1024
MEMORY = 7000
SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'
LOG_GROUP_NAME = APP_NAME
EXPECTED_NUMBER_FILES = 2
