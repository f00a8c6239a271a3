"""Minimal config for Distributed-HelloWorld. The config.py at the root explains each constant."""

APP_NAME = 'DistributedHelloWorld'
DOCKERHUB_TAG = 'user/distributed-helloworld:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 1
MACHINE_TYPE = ['t3.micro']
MACHINE_PRICE = 0.10
MEMORY = 800

# The program gets all other uppercase constants as environment variables.
MY_NAME = 'FirstName LastName'
