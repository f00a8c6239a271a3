"""Distributed-HelloWorld: what a config must hold, and MY_NAME. The config.py at the root explains each name."""

APP_NAME = 'DistributedHelloWorld'
DOCKERHUB_TAG = 'user/distributed-helloworld:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 1
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['t3.micro']
MACHINE_PRICE = 0.10
CPU_SHARES = 1024
MEMORY = 800
SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'
LOG_GROUP_NAME = APP_NAME

# The program's own: every further name in capitals reaches it as an environment variable.
MY_NAME = 'FirstName LastName'
