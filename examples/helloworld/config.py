"""The config for Distributed-HelloWorld, kept as short as possible.

The config.py at the root explains every constant.
"""

APP_NAME = 'DistributedHelloWorld'
DOCKERHUB_TAG = 'user/distributed-helloworld:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 1
MACHINE_TYPE = ['t3.micro']
MACHINE_PRICE = 0.10
MEMORY = 800

# Every other uppercase constant is passed to the program as an environment variable.
MY_NAME = 'FirstName LastName'
