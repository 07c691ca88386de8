# SPDX-License-Identifier: Apache-2.0
"""From PyTorch to ONNX files, each of which is proven before it is kept."""
