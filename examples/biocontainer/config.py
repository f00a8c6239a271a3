"""bwa and samtools: only what a config must hold. The config.py at the root explains each name."""

APP_NAME = 'BioContainer'
DOCKERHUB_TAG = 'user/bwa-samtools:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['c5.large']
MACHINE_PRICE = 0.10
DOCKER_CORES = 2
CPU_SHARES = DOCKER_CORES * 1024
MEMORY = 3000
SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'
LOG_GROUP_NAME = APP_NAME
