# SPDX-License-Identifier: Apache-2.0
"""What the scripts of the wav2vec2 inference suite share, in wings that carry an import rule (test_house.py holds it).

machine   start, signals, processor, threads, processes       imports nothing of the suite
speech    audio, padding, CTC, WER, latency: no file opened   imports errors
files     every file between the scripts                      imports errors, machine, speech
sources   data sets, model folders, the hub                   imports errors, machine, speech, files.names, files.text
engines   what runs a model: CPUs, NPU, PyTorch               imports errors, machine, speech, files except manifest
export    ONNX graphs and their proofs                        imports errors and all wings above
cli       options, and how a script ends                      imports errors, machine, speech, sources.splits
report    results side by side: table, JSON, page             imports errors, machine, speech, files, sources, cli

The scripts, gears and evaluate may import everything; nobody imports a script. machine, speech, files and
engines can be imported with numpy and tqdm alone, and keep to Python 3.9's syntax.
"""

from .machine.reporting import switch_off_reporting
from .machine.start import prepare_script

prepare_script()
switch_off_reporting()

__version__ = "1.1.dev0"  # what --version prints; onnx2om.sh reads this line
MODEL_ID = "facebook/wav2vec2-base-960h"
MODEL_NAME = MODEL_ID.rpartition("/")[2]
