# SPDX-License-Identifier: Apache-2.0
"""A generation_config.json that cannot be read is not taken for one that is absent: the stop ids are in it alone."""

import pytest

from optimum_gemma4.modeling.artifact_model import Gemma4ArtifactMixin


def test_a_damaged_file_is_an_error_and_an_absent_one_is_not(tmp_path):
    model = Gemma4ArtifactMixin()
    model._read_generation_config(tmp_path)
    assert not hasattr(model, "generation_config")
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match="stop ids in a generation_config.json that cannot be read"):
        model._read_generation_config(tmp_path)
