# SPDX-License-Identifier: Apache-2.0
"""`python -m optimum_gemma4.exporters`: the process that `optimum-cli export neuron` starts."""

import sys

from .main import main


sys.exit(main())
