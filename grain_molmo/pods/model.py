"""What a vision-language model computes and holds: parameters, arithmetic of a row, memory of its activations."""

from dataclasses import dataclass

from grain_molmo.special_tokens import SPECIAL_TOKENS
from grain_molmo.stages import Stage
from grain_molmo.vision.crops import PATCHES_PER_CROP

_BF16, _FLOAT32 = 2, 4
_STATE_BYTES = 4 * _FLOAT32
"""Of a parameter in training: itself, its gradient, and the two moments of Adam."""
_CROPS_AT_A_TIME = 8
_LOSS_TOKENS_AT_A_TIME = 512


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A stack of layers.

    Attributes:
        layers: of attention and MLP.
        width: of the residual stream.
        heads, kv_heads, head_dim: of attention; queries, keys and values.
        mlp: inner width.
        gated: whether the MLP has a third matrix.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    gated: bool

    @property
    def layer_params(self) -> int:
        """Parameters of a layer's matrices."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        return attention + (3 if self.gated else 2) * self.width * self.mlp

    @property
    def params(self) -> int:
        """Parameters of the matrices."""
        return self.layers * self.layer_params

    def forward_flops(self, tokens: int, seen: float) -> float:
        """Operations forward for so many `tokens` that each attend to `seen` others on average."""
        return 2 * tokens * (self.params + 2 * self.layers * self.heads * self.head_dim * seen)

    def activation_bytes(self, tokens: int) -> int:
        """Of so many `tokens`: each layer's input in bf16, kept for the backward pass, and what one layer computes."""
        within = 4 * self.width + 2 * self.head_dim * (self.heads + self.kv_heads) + 3 * self.mlp
        return tokens * _BF16 * (self.layers * self.width + 2 * within)


@dataclass(frozen=True, kw_only=True)
class VisionLanguageModel:
    """A Molmo2: patches of crops through a vision transformer, pooled, among the tokens of a language model.

    Attributes:
        vision: sees the 729 patches of one crop.
        language: sees a row's tokens.
        connector_params: between the two, for each visual token.
        vocab_size: rows of the embedding, which is also the output's.
        kept_layers: outputs of the vision transformer that are pooled.
    """

    vision: Transformer
    language: Transformer
    connector_params: int
    vocab_size: int
    kept_layers: int = 2

    @property
    def params(self) -> int:
        """All parameters, every one of them trained."""
        embedding = self.vocab_size * self.language.width
        return self.vision.params + self.connector_params + self.language.params + embedding

    @property
    def state_bytes(self) -> int:
        """Parameters, gradients and Adam's moments, in float32."""
        return self.params * _STATE_BYTES

    def row_flops(self, stage: Stage, examples_per_row: float) -> float:
        """Operations forward and backward of a row, padding included, nothing computed twice.

        A token attends to half of its own example on average; the examples of a row are taken as equally long.

        Args:
            stage: its tokens, crops and pooled vectors a row.
            examples_per_row: on average.
        """
        language = self.language.forward_flops(stage.seq_len, stage.seq_len / examples_per_row / 2)
        output = 2 * stage.seq_len * self.vocab_size * self.language.width
        patches = stage.crops_per_row * PATCHES_PER_CROP
        vision = self.vision.forward_flops(patches, PATCHES_PER_CROP)
        connector = 2 * stage.pooled_per_row * self.connector_params
        return 3 * (language + output + vision + connector)

    def activation_bytes(self, tokens: int, crops: int) -> int:
        """Of so many `tokens` and `crops` on one device.

        Layers are computed again in the backward pass, crops eight at a time, the loss 512 tokens at a time, and
        attention block by block, so that no matrix of scores exists.
        """
        pooled_from = crops * PATCHES_PER_CROP * self.kept_layers * self.vision.width * _BF16
        vision = self.vision.activation_bytes(min(crops, _CROPS_AT_A_TIME) * PATCHES_PER_CROP)
        loss = min(tokens, _LOSS_TOKENS_AT_A_TIME) * self.vocab_size * 2 * _FLOAT32
        two_layers = 2 * self.language.layer_params * _BF16  # gathered from all devices, one while another is in use
        return self.language.activation_bytes(tokens) + pooled_from + vision + loss + two_layers


MOLMO2_4B = VisionLanguageModel(
    # SigLIP 2 So400m: the outputs of its third and ninth layer from the end are pooled, so 25 of 27 layers are run.
    vision=Transformer(layers=25, width=1152, heads=16, kv_heads=16, head_dim=72, mlp=4304, gated=False),
    # Qwen3-4B.
    language=Transformer(layers=36, width=2560, heads=32, kv_heads=8, head_dim=128, mlp=9728, gated=True),
    # Attention over the patches of a window, and a gated MLP into the language model.
    connector_params=3 * 2304 * 1152 + 1152 * 1152 + (2 * 1152 + 2560) * 9728,
    vocab_size=151_936 + len(SPECIAL_TOKENS),
)
"""The model that the pods in `tpu_configs` are sized for."""
