"""CellProfiler, for `run.py --project examples/cellprofiler`: the keys of Distributed-CellProfiler's config.

What is not here has a default, and the config.py at the root explains it.
"""

APP_NAME = 'ExampleFly'
DOCKERHUB_TAG = 'user/distributed-cellprofiler:4.2.8'

AWS_REGION = 'us-east-1'
AWS_BUCKET = 'your-bucket-name'         # records and logs; and what the three below leave out
SOURCE_BUCKET = AWS_BUCKET              # has the images
WORKSPACE_BUCKET = AWS_BUCKET           # has pipelines and data files
DESTINATION_BUCKET = AWS_BUCKET         # gets the results
UPLOAD_FLAGS = ''                       # for another account's bucket: '--acl bucket-owner-full-control'

CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.xlarge']
MACHINE_PRICE = 0.20
EBS_VOL_SIZE = 30
MOUNT_S3 = 'False'                      # 'True': images are read in the mounted bucket, unless
DOWNLOAD_FILES = 'True'                 # this says to fetch them all the same

DOCKER_CORES = 1
CPU_SHARES = 4 * 1024
MEMORY = 15000
SECONDS_TO_START = 0

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_DEAD_LETTER_QUEUE = APP_NAME + '_DeadMessages'
LOG_GROUP_NAME = APP_NAME

CHECK_IF_DONE_BOOL = 'True'
EXPECTED_NUMBER_FILES = 5

ALWAYS_CONTINUE = 'False'               # 'True': an image set that fails does not end its group
USE_PLUGINS = 'False'                   # 'True': plugins of PLUGINS_PATH, which worker/Dockerfile puts there
PLUGINS_PATH = '/home/ubuntu/CellProfiler-plugins'
