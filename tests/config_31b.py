# SPDX-License-Identifier: Apache-2.0
"""What the 31B's text and vision configurations say beyond the defaults, in the Hub's spelling."""

CONFIG_31B = {
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "num_hidden_layers": 60,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "num_global_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "sliding_window": 1024,
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
    "use_bidirectional_attention": "vision",
    "max_position_embeddings": 262144,
}
VISION_CONFIG_31B = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "position_embedding_size": 10240,
    "standardize": True,
    "use_clipped_linears": False,
}
