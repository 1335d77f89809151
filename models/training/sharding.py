"""Share out the weights of a network among processes."""

from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

WHOLE = StateDictOptions(full_state_dict=True)  # every process has all of a state and takes its part


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Each process keeps its part of the parameters of `net`, in place; once is enough.

    The parameters are put together at the start of a step and shared out after it, all at once: a network calls its
    parts in whatever way it likes. They lie in memory in the usual order, the only one that can be shared out.
    """
    if isinstance(net, FSDPModule):
        return
    for parameter in net.parameters():
        parameter.data = parameter.data.contiguous()
    fully_shard(net, mesh=mesh)


def own_part(parameter: Tensor) -> Tensor:
    """What this process keeps of a parameter: all of it, unless it is shared out."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def keep_changes(net: nn.Module) -> None:
    """Share out anew what was changed while the parameters of `net` were together, after a pass without gradients.

    The changes must be the same in all processes. Without this only what was put together would have changed.
    """
    if isinstance(net, FSDPModule):
        whole: dict[str, Any] = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        net.reshard()
        set_model_state_dict(net, whole, options=StateDictOptions(full_state_dict=True, strict=False))


def load_optimizer(module: nn.Module, optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give `optimizer` over parameters of `module` that are shared out the state `saved` of one over whole ones.

    As for any optimizer, the parameters are told by their places in the groups.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    state, groups = {}, []
    for ours, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        named = {number: names[parameter] for number, parameter in zip(theirs["params"], ours["params"], strict=True)}
        state |= {name: saved["state"][number] for number, name in named.items() if number in saved["state"]}
        groups.append({**theirs, "params": list(named.values()), "fused": ours.get("fused")})
    whole: dict[str, Any] = {"state": state, "param_groups": groups}
    set_optimizer_state_dict(module, optimizer, whole, options=WHOLE)
