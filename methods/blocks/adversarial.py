"""Networks against each other: blocks with running statistics, and the loss of two discriminators.

Two discriminators tell true features of their modality from features made of the other modality. All
networks take their step at once, along the gradient of one loss that is reversed where it enters a
discriminator's input, so that what a discriminator descends, the makers of its input ascend.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import add

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from benchmark.training import Model, Params

from .layers import BatchNorm, Stack, reverse_gradient


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
        self.layers = Stack(sizes, partial(leaky_relu, negative_slope=slope), bare=bare)

    def forward(self, x: Tensor, training: bool = False) -> tuple[Tensor, Params]:
        """Rows to rows, and in training the new running statistics by their names."""
        x, running = self.bn.train_rows(x) if training else (self.bn(x), {})
        return self.layers(x), {f"bn.{name}": value for name, value in running.items()}


class Pass:
    """One pass in training mode, which collects the running statistics.

    A block that is used twice continues from its own new statistics.

    Args:
        model: The whole network, bound to the parameters and statistics of one replica; not changed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state: Params = {}

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Output of the block of that name."""
        block = Model(self.model.get_submodule(name), {**self.model.tensors, **self.state}, f"{name}.")
        out: Tensor
        out, running = block(x, training=True)
        self.state |= {f"{name}.{key}": value for key, value in running.items()}
        return out


def judged(
    block: Pass, a: str, b: str, true: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Logits ``(n, 2)`` of the discriminators of modalities a and b, given true and made rows ``(n, D)``.

    Gradients are reversed where they enter the rows. The first discriminator sees true rows before made ones,
    the second made rows first, and their running statistics average in that order.
    """
    asked = (("true_a", a, true[0]), ("made_a", a, made[0]), ("made_b", b, made[1]), ("true_b", b, true[1]))
    return {name: block(f"discriminators.{judge}", reverse_gradient(x)) for name, judge, x in asked}


def adversarial_loss(true_a: Tensor, made_a: Tensor, made_b: Tensor, true_b: Tensor) -> Tensor:
    """J_adv from the four batches of logits, ``(n, 2)`` each."""
    targets = ((true_a, 1), (made_a, 0), (made_b, 1), (true_b, 0))
    log_likelihoods = (logits.log_softmax(dim=-1)[:, target].mean() for logits, target in targets)
    return -reduce(add, log_likelihoods)
