# SPDX-License-Identifier: Apache-2.0
"""Where utterances and models come from: local folders or the Hugging Face hub."""
