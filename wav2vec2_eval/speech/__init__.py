# SPDX-License-Identifier: Apache-2.0
"""Pure arithmetic on waveforms, logits, texts and times: no file is opened here."""
