"""Configuration for a run. As shipped, it runs the cell-counting example; with `--local`, it needs no AWS account.

Write Booleans as 'True' and 'False', with quotes. If anything in this file is wrong, run.py reports it before creating
anything in AWS.
"""

# THE PROGRAM AND ITS IMAGE:
APP_NAME = 'DistributedSomething'  # part of the name of everything in AWS; simultaneous runs need different ones
DOCKERHUB_TAG = 'user/distributed-something:latest'  # the name of the image that `make build` builds

# GENERAL AWS SETTINGS (for your account):
AWS_REGION = 'us-east-1'  # your bucket's region; from another region, you pay for every byte that machines read
AWS_PROFILE = 'default'  # a profile of the AWS CLI; 'default' logs in the same way as the AWS CLI
SSH_KEY_NAME = 'your-key-file.pem'  # the key pair for logging in to the machines
AWS_BUCKET = 'your-bucket-name'  # where inputs are read and where results, records, and logs are written

# EC2 AND ECS INFORMATION:
ECS_CLUSTER = 'default'  # the cluster that the machines join; created if it does not exist
CLUSTER_MACHINES = 2  # number of machines; a new account may run spot machines with 5 virtual CPUs in total
TASKS_PER_MACHINE = 1  # number of containers per machine
MACHINE_TYPE = ['m5.large']  # with several types, EC2 finds machines more easily; m5.large: 2 virtual CPUs, 8 GiB
MACHINE_PRICE = 0.10  # maximum USD per hour for a machine; below the on-demand price, EC2 interrupts more often
ON_DEMAND_MACHINES = 0  # how many of the machines are on-demand; they cost more and are never interrupted
MAX_RUN_HOURS = 7 * 24  # the fleet ends after this many hours, whatever happens
MAX_COST = 0  # USD per run (without disks); monitor warns at 80%, and at 100% no new jobs start; 0 means unlimited
OWNER = ''  # a tag on everything that a run creates, for billing; '' means the user who is logged in
EBS_VOL_SIZE = 30  # GiB of disk per machine, at least 22; holds the image and the running jobs' files
# Whether each machine gets a public IPv4 address (0.005 USD per hour). Without one, a machine in an ordinary subnet
# cannot reach AWS and takes no jobs. Write 'False' if your subnet has a NAT gateway or VPC endpoints.
ASSIGN_IP = 'True'

# CONTAINERS:
DOCKER_CORES = 2  # number of jobs that a container runs at once
CPU_SHARES = DOCKER_CORES * 1024  # CPU units per container; 1024 units equal one virtual CPU
MEMORY = 7000  # MiB per container; the system and the ECS agent use up to 8% of a machine's memory (8192 MiB here)
GPUS = 0  # GPUs per container; needs machine types with NVIDIA GPUs, such as g4dn.xlarge; see docs/gpu.md
SECONDS_TO_START = 0  # delay between the starts of a container's first jobs; try 3*60 if starting takes a lot of CPU

# SQS QUEUES:
SQS_QUEUE_NAME = APP_NAME + 'Queue'  # the queue of the jobs; each app needs its own
# Seconds until a lost machine's job runs elsewhere. Long jobs do not need a higher value: a worker keeps its job for as
# long as it works on it.
SQS_MESSAGE_VISIBILITY = 120
SQS_DEAD_LETTER_QUEUE = APP_NAME + 'DeadMessages'  # receives jobs that failed JOB_RETRIES times; apps may share it
JOB_RETRIES = 3  # number of attempts before a job counts as failed

# MACHINES:
# Whether to terminate a machine whose CPU utilization stays below 1% for 15 minutes; the fleet replaces it if it is
# still needed. Write 'False' for work that hardly uses the CPU, such as long downloads.
IDLE_ALARM = 'True'
# Whether to mount the bucket in the container as the read-only folder /home/ubuntu/bucket, for programs that read paths
# there. Run `make build` after you change this. Without the mount, inputs are fetched, which is simpler and faster.
MOUNT_S3 = 'False'
MAX_TRANSFER_MINUTES = 120  # an attempt fails if the fetch of its inputs takes longer, or the upload of its results
# Whether web inputs may be http:// addresses, which anyone on the way can change, and addresses of the machine itself,
# where the machine's credentials can be read.
ALLOW_UNSAFE_INPUTS = 'False'

# PROGRAM:
# Whether your program gets AWS credentials and the addresses of the queues in its environment.
PROGRAM_MAY_USE_AWS = 'False'
PROGRAM_USER = ''  # a user in the image, such as '1000', that your program runs as; '' means the container's user

# LOGS:
LOG_GROUP_NAME = APP_NAME  # the CloudWatch log group of the workers' and the jobs' output
# Whether each job's output is also sent to CloudWatch while the job runs (0.50 USD per GB). Its complete log is stored
# beside its record in any case. Write 'False' for programs that print a lot.
STREAM_JOB_LOGS = 'True'
EXPORT_LOGS = 'True'  # copy the logs to AWS_BUCKET/exportedlogs/ at the end; the jobs' own logs are stored in any case

# MONITORING:
AUTO_MONITOR = 'False'  # 'True': the monitor that setupAWS created runs in AWS, and your computer can be off
NOTIFY = ''  # the ARN of an SNS topic, which sends e-mail about the run; setupAWS --notify ADDRESS makes one
CREATE_DASHBOARD = 'False'  # a CloudWatch dashboard for the run; the first three in an account are free
CLEAN_DASHBOARD = 'True'  # the monitor deletes the dashboard at the end of the run

# RESULT CHECKS:
CHECK_IF_DONE_BOOL = 'True'  # skip a job whose results, as the three constants below define them, are in the bucket
EXPECTED_NUMBER_FILES = 2  # a job's results are at least this many files; expected_files in a Job file takes precedence
MIN_FILE_SIZE_BYTES = 1  # smaller files do not count as results
NECESSARY_STRING = ''  # only files with this text in their names count as results; '' allows every name

# YOUR OWN CONSTANTS:
# Your program gets all other uppercase constants as environment variables with the same names, for example
# MY_NAME = 'Ada'
