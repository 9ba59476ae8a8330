# SPDX-License-Identifier: Apache-2.0
"""From a graph of all ranks to a running model: how it is stored, made ready and executed."""
