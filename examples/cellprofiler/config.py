"""Config for CellProfiler, with the keys of Distributed-CellProfiler. Use it with `--project examples/cellprofiler`.

Constants that are missing here have defaults; the config.py at the root explains them.
"""

APP_NAME = 'ExampleFly'
DOCKERHUB_TAG = 'user/distributed-cellprofiler:4.2.8'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'         # for records and logs
SOURCE_BUCKET = AWS_BUCKET              # contains the images; AWS_BUCKET if this is missing or 'False'
WORKSPACE_BUCKET = AWS_BUCKET           # contains pipelines and data files; if missing or 'False', SOURCE_BUCKET
DESTINATION_BUCKET = AWS_BUCKET         # receives the results; if missing or 'False', AWS_BUCKET
UPLOAD_FLAGS = ''                       # for another account's bucket: '--acl bucket-owner-full-control'

CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.xlarge']
MACHINE_PRICE = 0.20
EBS_VOL_SIZE = 30
MOUNT_S3 = 'False'                      # 'True': images are read from the mounted bucket
DOWNLOAD_FILES = 'True'                 # 'True': images are fetched even if the bucket is mounted

DOCKER_CORES = 1
CPU_SHARES = 4 * 1024
MEMORY = 15000
SECONDS_TO_START = 0

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + '_DeadMessages'
LOG_GROUP_NAME = APP_NAME

CHECK_IF_DONE_BOOL = 'True'
EXPECTED_NUMBER_FILES = 5

ALWAYS_CONTINUE = 'False'               # 'True': CellProfiler continues with a group after an image set fails
USE_PLUGINS = 'False'                   # 'True': uses the plugins that worker/Dockerfile installs in PLUGINS_PATH
PLUGINS_PATH = '/home/ubuntu/CellProfiler-plugins'
