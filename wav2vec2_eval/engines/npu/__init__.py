# SPDX-License-Identifier: Apache-2.0
"""The Ascend NPU through pyACL: written to CANN's documented contract and proven on an emulator, not on a device."""
