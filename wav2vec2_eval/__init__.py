# SPDX-License-Identifier: Apache-2.0
"""What the scripts of the wav2vec2 inference suite share.

Pure functions in the middle:  audio (waveforms), gears (the best ones), ctc (logits to text), timing (latencies).
Disk and hub at the edges:     manifest, tensors, folders, results (files between the scripts), librispeech,
                               model_folder, scoring (WER and its files).
Devices at the edges:          engines (choose one), onnx_engine and openvino_engine (this host's CPU; batches for both,
                               openvino_graph for the second), npu_engine on acl_runtime (Ascend), pytorch (the model
                               for export and baseline), masked (the padding-exact model), quantize (int8 models).
Around them:                   pipeline (read ahead, write behind), cli (options, signals), errors, report (the table).

Modules that pyacl_infer.py imports need numpy and tqdm only, and keep to Python 3.9 syntax.
"""

MODEL_ID = "facebook/wav2vec2-base-960h"
MODEL_NAME = MODEL_ID.rpartition("/")[2]
