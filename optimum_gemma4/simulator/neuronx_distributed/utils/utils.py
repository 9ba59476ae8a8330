# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.utils.utils: the hardware generations and their aliases."""

import os
from enum import Enum, auto


class hardware(Enum):  # noqa: N801 (the SDK's spelling)
    """Hardware generation of a platform target; inf2 and trn1n are the TRN1 generation, there is no INF2."""

    TRN1 = "trn1"
    TRN2 = "trn2"
    CUSTOM = auto()

    @classmethod
    def _missing_(cls, value):
        if value in ("trn1n", "inf2"):
            return cls.TRN1
        if value is not None and value == os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE"):
            return cls.CUSTOM
        return None
