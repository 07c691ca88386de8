# SPDX-License-Identifier: Apache-2.0
"""What runs a model: onnxruntime or OpenVINO on a CPU, pyACL on an Ascend NPU, PyTorch for the baseline."""
