"""The config for CellProfiler, used by `run.py --project examples/cellprofiler`.

It has the keys of Distributed-CellProfiler. Constants that are missing here have default values, which the config.py at
the root explains.
"""

APP_NAME = 'ExampleFly'
DOCKERHUB_TAG = 'user/distributed-cellprofiler:4.2.8'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'         # has records and logs; also used if one of the next three is not set
SOURCE_BUCKET = AWS_BUCKET              # has the images
WORKSPACE_BUCKET = AWS_BUCKET           # has pipelines and data files
DESTINATION_BUCKET = AWS_BUCKET         # receives the results
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
USE_PLUGINS = 'False'                   # 'True': use the plugins that worker/Dockerfile adds in PLUGINS_PATH
PLUGINS_PATH = '/home/ubuntu/CellProfiler-plugins'
