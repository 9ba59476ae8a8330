# SPDX-License-Identifier: Apache-2.0
"""What the host does about images: start at `prompt_images.py`, then `matching.py`, `blocks.py`, `inputs.py`, and
`vision_graphs.py`, which calls the compiled encoder. The encoder itself is in `modeling/vision`."""
