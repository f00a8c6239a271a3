"""The config for bwa and samtools, kept as short as possible. The config.py at the root explains every constant."""

APP_NAME = 'BioContainer'
DOCKERHUB_TAG = 'user/bwa-samtools:latest'
AWS_BUCKET = 'your-bucket-name'
CLUSTER_MACHINES = 2
MACHINE_TYPE = ['c5.large']
MACHINE_PRICE = 0.10
DOCKER_CORES = 2
MEMORY = 3000
