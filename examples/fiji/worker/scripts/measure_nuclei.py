# @String input_file_location
# @String output_file_location
# @String well
# @String label
# @Double minimum_size
# ruff: noqa: F821, UP031 (SciJava turns the parameters above into variables; Jython is Python 2)
"""Fiji script that measures the nuclei in one image. It writes nuclei.csv (one row per nucleus) and outlines.png."""

import os

from ij import IJ
from ij.measure import Measurements, ResultsTable
from ij.plugin.filter import ParticleAnalyzer

image = IJ.openImage(os.path.join(input_file_location, well + ".png"))
IJ.run(image, "8-bit", "")
IJ.run(image, "Gaussian Blur...", "sigma=1.5")
IJ.setAutoThreshold(image, "Otsu dark")

table = ResultsTable()
options = ParticleAnalyzer.SHOW_OUTLINES | ParticleAnalyzer.EXCLUDE_EDGE_PARTICLES
measurements = Measurements.AREA | Measurements.CENTROID | Measurements.MEAN
analyzer = ParticleAnalyzer(options, measurements, table, minimum_size, float("inf"))
analyzer.setHideOutputImage(True)
analyzer.analyze(image)

for row in range(table.size()):
    table.setValue("Well", row, well)
    table.setValue("Label", row, label)
table.save(os.path.join(output_file_location, "nuclei.csv"))
IJ.saveAs(analyzer.getOutputImage(), "PNG", os.path.join(output_file_location, "outlines.png"))
print("%s: %d nuclei (%s)" % (well, table.size(), label))
