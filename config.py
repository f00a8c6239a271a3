"""The config of a run. As shipped, it runs the cell-counting example; with `--local`, it needs no AWS account.

Write truth values as 'True' and 'False', with quotes. If something in this file is wrong, run.py says so before it
creates anything in AWS.
"""

# CONSTANTS OF THE PROGRAM AND ITS IMAGE:
APP_NAME = 'DistributedSomething'  # names everything of a run in AWS; runs at the same time need different names
DOCKERHUB_TAG = 'user/distributed-something:latest'  # the image; user, project, and tag as in the Makefile

# AWS GENERAL SETTINGS (of your account):
AWS_REGION = 'us-east-1'  # the region of your bucket; in another region, machines pay for every byte that they read
AWS_PROFILE = 'default'  # a profile of the AWS command line; 'default' logs in as the command line does
SSH_KEY_NAME = 'your-key-file.pem'  # the key pair with which you can log in to the machines
AWS_BUCKET = 'your-bucket-name'  # where inputs are read and results, records, and logs are written

# EC2 AND ECS INFORMATION:
ECS_CLUSTER = 'default'  # the cluster that the machines join; created if it does not exist
CLUSTER_MACHINES = 2  # number of machines; a new account may run spot machines with 5 virtual CPUs in total
TASKS_PER_MACHINE = 1  # number of containers on a machine
MACHINE_TYPE = ['m5.large']  # several types find spot machines more easily; an m5.large has 2 virtual CPUs and 8 GiB
MACHINE_PRICE = 0.10  # USD an hour, the most to pay for a machine; below the on-demand price, EC2 interrupts more often
ON_DEMAND_MACHINES = 0  # number of on-demand machines among them; they cost more and are never interrupted
MAX_RUN_HOURS = 7 * 24  # the fleet ends after this time, whatever happens
MAX_COST = 0  # USD for the run, estimated: monitor warns at 80 %, and at 100 % no new job starts; 0 means unlimited
OWNER = ''  # a tag on everything of a run, for the bill; '' is whoever is logged in
EBS_VOL_SIZE = 30  # GiB of disk for a machine, at least 22; for the image and the files of the running jobs
# A public IPv4 address for each machine (0.005 USD an hour). Without one, a machine in an ordinary subnet cannot reach
# AWS and takes no jobs. Write 'False' if your subnet has a NAT gateway or VPC endpoints.
ASSIGN_IP = 'True'

# DOCKER INSTANCE RUNNING ENVIRONMENT:
DOCKER_CORES = 2  # number of jobs that a container runs at once
CPU_SHARES = DOCKER_CORES * 1024  # of a container; 1024 are one virtual CPU
MEMORY = 7000  # MiB of a container; the system and the ECS agent use up to 8 % of a machine's memory (8192 MiB here)
SECONDS_TO_START = 0  # between the starts of a container's first jobs; 3*60, for example, if starting is heavy work

# SQS QUEUE INFORMATION:
SQS_QUEUE_NAME = APP_NAME + 'Queue'
# Seconds until the job of a lost machine runs elsewhere. Long jobs do not need more: a worker keeps its job for as long
# as it works on it.
SQS_MESSAGE_VISIBILITY = 120
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'  # gets a job that has failed JOB_RETRIES times
JOB_RETRIES = 3

# THE MACHINE:
# A machine whose CPU is used less than 1 % for 15 minutes is ended; the fleet replaces it while it needs it. Write
# 'False' for work that hardly uses the CPU, such as long downloads.
IDLE_ALARM = 'True'
# The bucket as a read-only folder /home/ubuntu/bucket in the container, for programs that read paths there. Type
# `make build` after you change this. Without it, inputs are fetched, which is simpler and faster.
MOUNT_S3 = 'False'

# LOG GROUP INFORMATION:
LOG_GROUP_NAME = APP_NAME
EXPORT_LOGS = 'True'  # at the end, to AWS_BUCKET/exportedlogs/; each job's own log is beside its record anyway

# MONITORING:
AUTO_MONITOR = 'False'  # 'True': the monitor runs in AWS, where setupAWS created it; your computer can be off
CREATE_DASHBOARD = 'False'  # a CloudWatch dashboard of the run; the first three of an account are free
CLEAN_DASHBOARD = 'True'  # the monitor deletes the dashboard at the end of the run

# REDUNDANCY CHECKS:
CHECK_IF_DONE_BOOL = 'True'  # a job whose results are already in the bucket is skipped. Its results must be
EXPECTED_NUMBER_FILES = 2  # at least this many files (expected_files in a Job file takes precedence),
MIN_FILE_SIZE_BYTES = 1  # each of at least this many bytes,
NECESSARY_STRING = ''  # and with this text in its name; '' allows every name

# YOUR OWN CONSTANTS:
# Every other name in capitals reaches your program as an environment variable of that name, for example
# MY_NAME = 'Ada'
