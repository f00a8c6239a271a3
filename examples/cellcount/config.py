"""A config that is kept as short as possible.

The other constants have defaults; the config.py at the root explains every constant.
"""

APP_NAME = 'CellCount'
DOCKERHUB_TAG = 'user/cellcount:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 2
MACHINE_TYPE = ['m5.large']
MACHINE_PRICE = 0.10
DOCKER_CORES = 2
MEMORY = 7000
