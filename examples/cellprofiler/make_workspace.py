"""make_workspace.py PIPELINE FOLDER: the fly pipeline as a run with groups needs it, and its table of images.

CellProfiler ships it for its window: with modules that look for image files, and with a crop to a corner of each
picture. Groups of a table need LoadData in place of the first, and the crop is left out here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOAD_DATA_MODULE = """\
LoadData:[module_num:1|svn_version:'Unknown'|variable_revision_number:6|show_window:False|notes:[]|\
batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Input data file location:Elsewhere...|
    Name of the file:None
    Load images based on this data?:Yes
    Base image location:None|
    Process just a range of rows?:No
    Rows to process:1,100000
    Group images by metadata?:Yes
    Select metadata tags for grouping:Position
    Rescale intensities?:Yes"""
POSITIONS = ("002", "076", "218")
CHANNELS = {"OrigBlue": "D", "OrigGreen": "F", "OrigRed": "R"}
IMAGES_FOLDER = "/home/ubuntu/bucket/project_folder/images"


def adapt_pipeline(pipeline: str) -> str:
    """The pipeline without its window's input modules and without the crop."""
    head, *modules = re.split(r"\n\n(?=\w+:\[module_num)", pipeline)
    left_out = ("Images:", "Metadata:", "NamesAndTypes:", "Groups:", "Crop:")
    kept = [module for module in modules if not module.startswith(left_out)]
    text = "\n\n".join([head, LOAD_DATA_MODULE, *kept])
    text = re.sub(r"Crop(Blue|Green|Red)\b", r"Orig\1", text)
    return text.replace("After declumping only", "After both thresholding and declumping")


def build_image_table() -> str:
    """One row a picture, one FileName_ and PathName_ column a channel."""
    names = [f"{kind}_{channel}" for kind in ("FileName", "PathName") for channel in CHANNELS]
    rows = [
        [
            position,
            *(f"01_POS{position}_{letter}.TIF" for letter in CHANNELS.values()),
            *[IMAGES_FOLDER] * len(CHANNELS),
        ]
        for position in POSITIONS
    ]
    return "".join(",".join(row) + "\n" for row in (["Metadata_Position", *names], *rows))


def main(pipeline: str, folder: str) -> None:
    text = Path(pipeline).read_text(encoding="utf-8")
    Path(folder, "ExampleFly.cppipe").write_text(adapt_pipeline(text), encoding="utf-8")
    Path(folder, "load_data.csv").write_text(build_image_table())


if __name__ == "__main__":
    main(*sys.argv[1:])
