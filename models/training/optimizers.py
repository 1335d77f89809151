"""Any optimizer of timm by its name."""

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info, list_optimizers
from torch.optim import Optimizer

LOOKAHEAD = "lookahead_"


def timm_optimizer(params: Iterable[Any], *, name: str, lr: float, weight_decay: float, **options: Any) -> Optimizer:
    """The optimizer `name` of timm's factory over `params`; with `lookahead_` before its name, Lookahead around it.

    `options` are its own arguments. Raises ValueError for a name or an argument that there is not, for what needs
    second derivatives, and for what this machine lacks.
    """
    base, names = name.removeprefix(LOOKAHEAD), list(map(str, list_optimizers()))
    if base not in names:
        near = get_close_matches(base, names, n=4) or names
        raise ValueError(f"optimizer.name={name}: timm has no such optimizer; near it: {', '.join(near)}")
    if get_optimizer_info(base).second_order:
        raise ValueError(f"optimizer.name={name} needs second derivatives, which are not taken here; nearest: adamw")
    try:
        known = list(inspect.signature(get_optimizer_class(base, bind_defaults=False)).parameters)[1:]
        for option in options:
            if option not in known:
                near = get_close_matches(option, known, n=3) or known
                raise ValueError(f"optimizer.{option}: {name} takes no such argument; near it: {', '.join(near)}")
        return create_optimizer_v2(params, opt=name, lr=lr, weight_decay=weight_decay, **options)
    except (ImportError, AssertionError) as lacking:  # apex or bitsandbytes is missing
        raise ValueError(f"optimizer.name={name}: {lacking}; nearest: adamw, sgd, lamb, lion") from None
