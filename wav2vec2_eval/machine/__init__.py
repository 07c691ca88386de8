# SPDX-License-Identifier: Apache-2.0
"""What the suite asks of the host: signals, the processor, threads and processes. Imports nothing of the suite."""
