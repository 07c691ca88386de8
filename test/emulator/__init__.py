# SPDX-License-Identifier: Apache-2.0
"""The emulator's own tests.

This folder is a package. Otherwise its conftest would replace test/conftest.py as the module ``conftest``.
"""
