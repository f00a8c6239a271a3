"""Distributed-HelloWorld: the least that a config holds, and MY_NAME. The config.py at the root explains each name."""

APP_NAME = 'DistributedHelloWorld'
DOCKERHUB_TAG = 'user/distributed-helloworld:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 1
MACHINE_TYPE = ['t3.micro']
MACHINE_PRICE = 0.10
MEMORY = 800

# The program's own: every further name in capitals reaches it as an environment variable.
MY_NAME = 'FirstName LastName'
