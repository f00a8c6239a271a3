"""Make two plates in a microscope's format from the images A01.png to H12.png.

Usage: python3 make_plates.py IMAGES FOLDER

Writes the plates PLATE_A (rows A to D) and PLATE_B (rows E to H) to FOLDER. Each plate has a folder Images/ that
contains one TIFF per well, and plate.companion.ome, the OME-XML that describes them. The real bioformats2raw can also
read these plates.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from PIL import Image

MICROMETERS_PER_PIXEL = 0.65  # not the real size, which is not known for these images
OME_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def make_plate(name: str, rows: str, images: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    root = ElementTree.Element("OME", xmlns=OME_NAMESPACE)
    plate = ElementTree.SubElement(root, "Plate", ID="Plate:0", Name=name)
    paths = [path for path in sorted(images.glob("*.png")) if path.name[0] in rows]
    for number, path in enumerate(paths):
        pixels = np.asarray(Image.open(path))
        tifffile.imwrite(folder / f"{path.stem}.tiff", pixels, metadata=None)
        _add_well(path.stem, number, pixels.shape, root, plate, row=rows.index(path.name[0]))
    ElementTree.ElementTree(root).write(folder / "plate.companion.ome", encoding="UTF-8", xml_declaration=True)


def _add_well(
    well: str, number: int, shape: tuple[int, ...], root: ElementTree.Element, plate: ElementTree.Element, row: int
) -> None:
    element = ElementTree.SubElement(plate, "Well", ID=f"Well:0:{number}", Row=str(row), Column=str(int(well[1:]) - 1))
    sample = ElementTree.SubElement(element, "WellSample", ID=f"WellSample:0:{number}:0", Index=str(number))
    ElementTree.SubElement(sample, "ImageRef", ID=f"Image:{number}")
    image = ElementTree.SubElement(root, "Image", ID=f"Image:{number}", Name=well)
    pixels = ElementTree.SubElement(
        image, "Pixels", ID=f"Pixels:{number}", DimensionOrder="XYZCT", Type="uint8", SizeX=str(shape[1]),
        SizeY=str(shape[0]), SizeZ="1", SizeC="1", SizeT="1", PhysicalSizeX=str(MICROMETERS_PER_PIXEL),
        PhysicalSizeY=str(MICROMETERS_PER_PIXEL),
    )  # fmt: skip
    ElementTree.SubElement(pixels, "Channel", ID=f"Channel:{number}:0", SamplesPerPixel="1")
    data = ElementTree.SubElement(pixels, "TiffData", IFD="0", PlaneCount="1")
    ElementTree.SubElement(data, "UUID", FileName=f"{well}.tiff").text = f"urn:uuid:{number:032x}"


def main(images: str, folder: str) -> None:
    for name, rows in (("PLATE_A", "ABCD"), ("PLATE_B", "EFGH")):
        make_plate(name, rows, Path(images), Path(folder, name, "Images"))


if __name__ == "__main__":
    main(*sys.argv[1:])
