# SPDX-License-Identifier: Apache-2.0
"""The simulator's machinery behind the SDK's names: collectives, tracing, lowering to all ranks, and the runtime."""
