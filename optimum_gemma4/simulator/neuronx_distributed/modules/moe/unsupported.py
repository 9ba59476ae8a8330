# SPDX-License-Identifier: Apache-2.0
"""The base of the mixture-of-experts classes, which can be imported but not made."""


class NotSimulated:
    """A class of the SDK that the simulator does not have."""

    def __init__(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__}: the simulator does not run mixture-of-experts models")
