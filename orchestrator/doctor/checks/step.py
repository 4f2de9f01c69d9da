"""Seconds per training step of each network of a space on each of this node's devices, on random noise.

Run as a module, this is the process that trains.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.doctor.checks.findings import Result, failure, ok, warning
from orchestrator.doctor.checks.isolated_process import Failed, run_isolated

LIMIT_S = 120.0
STEPS, ENOUGH_S = 3, 10.0
START_S = 10.0  # that it takes at least to build a network and try a step
SLOWER = 1.5  # than the median of all devices of a kind
# Small enough for a laptop.
SPACE = """network = "unet"
[fixed]
base_channels = 8
image_size = 64
batch_size = 4
"""


def timed(space: str, device: str, limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
    """Step times of the baseline of each network of a space: device -> seconds per step, or the error.

    Raises `Failed` and `TimeoutError` for the first network; for the others they are in the answer.
    """
    began = time.monotonic()
    order = {"space": space, "device": device}
    answers = [run_isolated(__name__, order | {"place": 0}, limit_s)]
    for place, network in enumerate(answers[0]["others"], start=1):
        left_s = limit_s - (time.monotonic() - began)
        try:
            if left_s < START_S:
                raise TimeoutError
            answers.append(run_isolated(__name__, order | {"place": place}, left_s))
        except TimeoutError:
            answers.append({"network": network, "late": True})
        except Failed as error:
            answers.append({"network": network, "error": str(error)})
    return answers


def judge(node: str, answers: Mapping[str, list[dict[str, Any]] | Exception]) -> Iterator[Result]:
    """Results for a node in comparison with the others; `answers` by node."""
    answer = answers[node]
    if isinstance(answer, TimeoutError):
        yield warning(
            f"{answer}", "a CPU may need longer for a large network: set a smaller one with --space"
        )
        return
    if isinstance(answer, Exception):
        yield _failed(str(answer))
        return
    every = [one for those in answers.values() if isinstance(those, list) for one in those]
    for one in answer:
        if "error" in one:
            yield _failed(f"{one['network']}: {one['error']}")
        elif "seconds" in one:
            yield _compared(one, [other for other in every if other["network"] == one["network"]])
    if late := [one["network"] for one in answer if "late" in one]:
        yield warning(
            f"no step of {', '.join(late)} was timed within {LIMIT_S:.0f} s",
            "set --space to a file with one of these alone",
        )


def _failed(why: str) -> Result:
    return failure(
        f"no training step: {why}",
        "run `orchestrator fit` on this node for details; check `dmesg` for its GPU",
    )


def _compared(answer: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> Result:
    """Result for the step times of one network on this node's devices; `alike`: its answers of all nodes."""
    every = [seconds for one in alike for seconds in one.get("seconds", {}).values()]
    median, own = statistics.median(every), answer["seconds"]
    listed = ", ".join(f"{device} {seconds:.3f} s" for device, seconds in own.items())
    slow = [device for device, seconds in own.items() if seconds > SLOWER * median]
    found = f"a step of {answer['network']}, {answer['images']} images of {answer['image_size']} px: {listed}"
    if slow and len(every) > 1:
        return warning(
            f"{found}; {', '.join(slow)}: {max(own[device] for device in slow) / median:.1f} times the median",
            "find other users of it with `nvidia-smi` and `top`; and check whether it is hot or throttled",
        )
    return ok(found)


def main(space: str, device: str, place: int) -> dict[str, Any]:
    """Time a step of the network at this place, the baseline's being first; the answer names the others."""
    import torch

    from orchestrator.search.space.space_file import parse_space
    from orchestrator.training.process import configure_process

    configure_process()
    parsed = parse_space(space)
    first = parsed.baseline_params()["network"]
    networks = sorted(parsed.networks, key=lambda network: network != first)
    configuration = parsed.configuration(parsed.baseline_params(networks[place]))
    devices = [torch.device("cpu")]
    if device != "cpu" and torch.cuda.is_available():
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    images, seconds = configuration.recipe.batch_size, {}
    for one in devices:
        images, seconds[str(one)] = _fitting(configuration, one, images)
    return {
        "network": configuration.network,
        "others": networks[1:],
        "images": images,
        "image_size": configuration.recipe.image_size,
        "seconds": seconds,
    }


def _fitting(configuration: Any, device: Any, images: int) -> tuple[int, float]:
    """Number of images that fit into memory, `images` or halves of it, and the seconds per step."""
    from orchestrator.training.memory import ran_out

    while True:
        try:
            return images, _seconds(configuration, device, images)
        except RuntimeError as error:
            if images == 1 or not ran_out(error):
                raise
        images = (images + 1) // 2


def _seconds(configuration: Any, device: Any, images: int) -> float:
    import torch

    from orchestrator import models
    from orchestrator.training.gradient_checkpointing import computed_again, parts_of
    from orchestrator.training.losses.registry import segmentation_loss
    from orchestrator.training.optimization.precision import Precision

    torch.manual_seed(0)
    offline = {"pretrained": False, "weights": None}.items()
    known = models.params(configuration.network)
    params = configuration.network_params | {name: value for name, value in offline if name in known}
    network = models.build(configuration.network, **params).to(device).train()
    amp = Precision(configuration.recipe.precision, device)
    if amp.on_tensor_cores:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch 2.10
    loss_of = segmentation_loss(configuration.recipe.loss, models.supervision(network))
    again = parts_of(network) if configuration.recipe.gradient_checkpointing else []
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4)
    size = configuration.recipe.image_size
    image = torch.rand(images, 3, size, size, device=device)
    mask = (torch.rand(images, 1, size, size, device=device) > 0.5).float()
    seconds: list[float] = []
    began = time.perf_counter()
    for _ in range(1 + STEPS):  # the first one warms up
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with amp.autocast(), computed_again(again):
            outputs = network(image)
        loss = loss_of(outputs, mask)
        amp.scaler.scale(loss).backward()
        amp.scaler.step(optimizer)
        amp.scaler.update()
        if not bool(loss.isfinite()):  # waits for the GPU
            raise RuntimeError(f"the loss of random images is {float(loss)}")
        seconds.append(time.perf_counter() - started)
        if time.perf_counter() - began > ENOUGH_S:
            break
    return statistics.median(seconds[1:] or seconds)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))), flush=True)
