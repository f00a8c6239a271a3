"""Adapt CellProfiler's fly pipeline to a run with one job per image group, and write the table of images for it.

Usage: python3 make_workspace.py PIPELINE FOLDER

CellProfiler ships the pipeline for its graphical interface, with modules that find image files and a module that crops
each image to a corner. Jobs need LoadData instead of the input modules. Cropping is removed, so that the entire images
are measured.
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
    """Return the pipeline with LoadData instead of the input modules, and without Crop."""
    head, *modules = re.split(r"\n\n(?=\w+:\[module_num)", pipeline)
    removed_modules = ("Images:", "Metadata:", "NamesAndTypes:", "Groups:", "Crop:")
    other_modules = [module for module in modules if not module.startswith(removed_modules)]
    text = "\n\n".join([head, LOAD_DATA_MODULE, *other_modules])
    text = re.sub(r"Crop(Blue|Green|Red)\b", r"Orig\1", text)
    return text.replace("After declumping only", "After both thresholding and declumping")


def build_image_table() -> str:
    """Return a CSV table with one row per position, and with a FileName_ and a PathName_ column per channel."""
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
