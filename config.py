"""What you edit for a run. As it stands, it is the cell-counting example's; `--local` runs it without an AWS account.

Truth values are the texts 'True' and 'False'. What is wrong in this file, run.py says before it makes anything in AWS.
"""

# CONSTANTS OF THE PROGRAM AND ITS IMAGE:
APP_NAME = 'DistributedSomething'  # names all that a run has in AWS; runs that go on side by side need different ones
DOCKERHUB_TAG = 'user/distributed-something:latest'  # the image; user, project and tag as in the Makefile

# AWS GENERAL SETTINGS (your account's):
AWS_REGION = 'us-east-1'  # the bucket's; machines in another region would pay for every byte that they read
AWS_PROFILE = 'default'  # a profile of the AWS command line; 'default' logs in as that would, with roles and SSO too
SSH_KEY_NAME = 'your-key-file.pem'  # the key pair that opens the machines for you
AWS_BUCKET = 'your-bucket-name'  # where inputs are read and results, records and logs are written

# EC2 AND ECS INFORMATION:
ECS_CLUSTER = 'default'  # the cluster that the machines join; made if it is not there
CLUSTER_MACHINES = 2  # how many machines; a new account may run spot machines of 5 virtual CPUs in all
TASKS_PER_MACHINE = 1  # how many containers on a machine
MACHINE_TYPE = ['m5.large']  # one for each launch specification of the Fleet file; this one: 2 virtual CPUs, 8 GiB
MACHINE_PRICE = 0.10  # USD an hour, the most to pay for a machine; below the on-demand price come more interruptions
ON_DEMAND_MACHINES = 0  # how many of them are no spot machines: dearer, never taken away
MAX_RUN_HOURS = 7 * 24  # the fleet ends by itself after that, whatever happens
MAX_COST = 0  # USD for the whole run, estimated: at 80 % monitor warns, at 100 % no new job is begun; 0 is no limit
OWNER = ''  # a tag for the bill on all that a run makes; '' is whoever is logged in
EBS_VOL_SIZE = 30  # GiB of disk a machine, at least 22; holds the image and the files of the jobs at work
# A public IPv4 address for each machine (0.005 USD an hour). Without one, a machine in an ordinary subnet cannot reach
# AWS and takes no job; 'False' if your subnet has a NAT gateway or VPC endpoints.
ASSIGN_IP = 'True'

# DOCKER INSTANCE RUNNING ENVIRONMENT:
DOCKER_CORES = 2  # how many jobs a container runs at once
CPU_SHARES = DOCKER_CORES * 1024  # of a container; 1024 are one virtual CPU
MEMORY = 7000  # MiB of a container; of a machine's (8192 here), the system and the ECS agent keep up to 8 %
SECONDS_TO_START = 0  # between the starts of a container's first jobs; 3*60, say, if a program's start is its peak

# SQS QUEUE INFORMATION:
SQS_QUEUE_NAME = APP_NAME + 'Queue'
# Seconds until the job of a machine that was lost is tried again. Long jobs need no more: while a worker runs a job, it
# keeps the job for itself.
SQS_MESSAGE_VISIBILITY = 120
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'  # where a job goes that failed JOB_RETRIES times
JOB_RETRIES = 3

# THE MACHINE:
# A machine whose CPU stays under 1 % for 15 minutes is ended (and replaced, while the fleet lives). 'False' for work
# that hardly needs the CPU, such as long downloads or a GPU's.
IDLE_ALARM = 'True'
# The bucket as a read-only folder /home/ubuntu/bucket in the container, for programs that take paths there. Needs an
# image that `make build` makes of this config. Without it, inputs are fetched: simpler and faster.
MOUNT_S3 = 'False'

# LOG GROUP INFORMATION:
LOG_GROUP_NAME = APP_NAME
EXPORT_LOGS = 'True'  # at the end, to AWS_BUCKET/exportedlogs/; every job's own log lies beside its record anyway

# MONITORING:
AUTO_MONITOR = 'False'  # 'True': the monitor runs in AWS, made once by setupAWS; nothing has to stay on here
CREATE_DASHBOARD = 'False'  # a CloudWatch dashboard of the run; an account's first three cost nothing
CLEAN_DASHBOARD = 'True'  # the monitor deletes it when the run is through

# REDUNDANCY CHECKS:
CHECK_IF_DONE_BOOL = 'True'  # a job whose results are in the bucket already is not run again
EXPECTED_NUMBER_FILES = 2  # done means: at least so many files (a Job file's expected_files goes before this),
MIN_FILE_SIZE_BYTES = 1  # each of at least so many bytes,
NECESSARY_STRING = ''  # and with this text in its name; '' is any name

# YOUR OWN CONSTANTS:
# Every further name in capitals reaches your program as an environment variable of that name, for example
# MY_NAME = 'Ada'
