"""Networks against each other: blocks with running statistics, and the reversal of gradients.

Two discriminators tell true features of their modality from features made of the other modality. All
networks take their step at once, along the gradient of one loss that is reversed where it enters a
discriminator's input, so that what a discriminator descends, the makers of its input ascend.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import leaky_relu

from benchmark.training.train import Params

from .layers import BatchNorm, part_of


class Block(nn.Module):
    """Batch norm of the input, then linear layers, each followed by a leaky ReLU.

    Args:
        sizes: Widths from input to output.
        slope: Of the negative half; 0 is a ReLU.
        bare: Whether the last layer is linear.
    """

    def __init__(self, sizes: tuple[int, ...], slope: float = 0.0, *, bare: bool = False) -> None:
        super().__init__()
        self.bn = BatchNorm(sizes[0])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.slope, self.bare = slope, bare

    def forward(self, x: Tensor, training: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows to rows, and in training the new running statistics by their names."""
        x, running = self.bn.train_rows(x) if training else (self.bn(x), {})
        for place, layer in enumerate(self.layers, start=1):
            x = layer(x)
            if not self.bare or place < len(self.layers):
                x = leaky_relu(x, self.slope)
        return x, {f"bn.{name}": value for name, value in running.items()}


class Pass:
    """One pass in training mode, which collects the running statistics.

    A block that is used twice continues from its own new statistics.

    Args:
        net: Weightless template.
        params: Parameters and statistics of one replica; not changed.
    """

    def __init__(self, net: nn.Module, params: Params) -> None:
        self.net, self.params = net, dict(params)
        self.state: Params = {}

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Output of the block of that name."""
        block = self.net.get_submodule(name)
        out, running = functional_call(block, part_of(self.params, f"{name}."), (x, True))
        new = {f"{name}.{key}": value for key, value in running.items()}
        self.params |= new
        self.state |= new
        return out


def reverse_gradient(x: Tensor) -> Tensor:
    """The same values, through which gradients pass with the opposite sign."""
    return 2 * x.detach() - x


def adversarial_loss(true_a: Tensor, made_a: Tensor, made_b: Tensor, true_b: Tensor) -> Tensor:
    """J_adv from the four batches of logits, ``(n, 2)`` each."""
    targets = ((true_a, 1), (made_a, 0), (made_b, 1), (true_b, 0))
    return -sum(logits.log_softmax(dim=-1)[:, target].mean() for logits, target in targets)
