# SPDX-License-Identifier: Apache-2.0
"""What the scripts of the wav2vec2 inference suite share.

Pure functions in the middle:  audio (waveforms, gears), ctc (logits to text), scoring (WER), timing (latencies).
Disk and hub at the edges:     manifest, tensors, folders (files between the scripts), librispeech, model_folder.
Devices at the edges:          engines (choose one), onnx_engine (this host's CPU), pytorch (the baseline's model).
Around them:                   pipeline (read ahead, write behind), cli (options, errors), report (the final table).

Modules that pyacl_infer.py imports need numpy and tqdm only, and keep to Python 3.9 syntax.
"""

MODEL_ID = "facebook/wav2vec2-base-960h"
MODEL_NAME = MODEL_ID.rpartition("/")[2]
