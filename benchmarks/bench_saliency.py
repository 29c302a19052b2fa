"""The explainers and the context experiment against their literal versions: time, peak memory and error in the same run.

Instance SmoothGrad (signed maximum):

The literal loop differentiates the whole volume once for every voxel of a lesion and every noisy copy. It is timed on
a few voxels, copy by copy in turns with the whole map of the lesion, and its cost for the lesion follows: one forward
pass and one backward pass a voxel for every copy. Both wall-clock and processor time are given: on a busy machine only
the latter can be compared. The error is the largest difference of the two maps of these few voxels with the same
noise, relative to the largest value. Where an activation lies within rounding of its kink, either method may take the
other slope: in single precision such places, about 1e-5 in one copy, limit the agreement.

Instance Grad-CAM++: one forward and one backward pass of the whole volume a lesion, against windows, with the feature
maps of the scan taken once. Context experiment: the lesion's score at 35 radii, on its window, against the sliding
window over the whole volume at one radius, times 35. The same result is that of the whole volume in one pass; the
sliding window cuts the context at its patches' borders and blends them; ours does the same on the patches that cover
the lesion, and the difference in score is printed.

Normalisation (`norm`): networks whose instance normalisation takes statistics of the whole patch, the paper's DynUNet
(96 x 96 x 96; to 1e-4 20 of the lesion's voxels) and nnU-Net's default of six levels (128 x 128 x 128, 20 of its
voxels): one noisy copy whose error is measured, and a further one, whose error is expected, in turns with the literal
loop on a few voxels. Processor time, and peak memory of each. Errors are those that `smoothgrad` hands out.

Tools (`tools`): the networks of other tools in their true sizes, with random weights: a lesion of 20 voxels on a patch (of
the U-Net on the whole scan), one noisy copy, against the literal loop, timed on one voxel.

Lesions (`lesions`): those of one scan together and one at a time, in turns, for the paper's DynUNet on 64 x 64 x 64.

Errors: the largest difference to the literal loop in the middle, at a corner and in a volume of odd size, relative to
the largest value, of random and of trained weights (`--weights`).

    python benchmarks/bench_saliency.py                 the paper's and the demo network on 192 x 224 x 192
    python benchmarks/bench_saliency.py --network demo  one of them
    python benchmarks/bench_saliency.py --part context  one of saliency, cam, context, errors, norm, lesions, tools
    python benchmarks/bench_saliency.py --part errors --weights weights/unet.safetensors
    python benchmarks/bench_saliency.py --part norm lesions tools --tiny   on small patches, in a minute: do they run?
    python benchmarks/bench_saliency.py --scaling       cost against lesion size, scan size and lesions per scan
"""

import argparse
import ctypes
import tempfile
import time
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import numpy as np
import torch
from monai.networks import nets

from lib.context import context_response
from lib.exact import find_window, frozen, unsupported_reason, whole_logits
from lib.network import LstUNet, build_network, load_weights, predict
from lib.saliency import (
    copy_maps,
    grad_cam,
    layer_activations,
    lesion_maps,
    noise_sigma,
    noisy_copies,
    scan_maps,
    smoothgrad,
)

SHAPE = (192, 224, 192)
NETWORKS = {"paper": ((32, 64, 128, 256, 512), (2, 2, 2, 2)), "demo": ((16, 32, 64, 128), (2, 2, 2))}
PARTS = ("saliency", "cam", "context", "errors", "norm", "lesions", "tools")
LITERAL_VOXELS = 3
TOOL_VOXELS = 20
TO_LESIONS = 5e-3  # of `lesions`: above what held statistics miss with random weights on 64 x 64 x 64, 1.5e-3
COPIES = {"paper": 4, "demo": 16}


def build(name):
    """The network with random weights, and batch normalisation and slopes as if it were trained."""
    torch.manual_seed(0)
    channels, strides = NETWORKS[name]
    model = build_network("unet", channels=channels, strides=strides).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, 0.0, 0.4)
    return model


def ball(shape, n_voxels):
    """About n_voxels around a point that is neither the centre nor on the stride grid."""
    centre = np.array(shape).reshape(3, 1, 1, 1) * 0.47 + 0.3
    distance = ((np.indices(shape) - centre) ** 2).sum(0)
    return distance <= np.partition(distance.ravel(), n_voxels - 1)[n_voxels - 1]


def scan(shape):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))


def explain(model, volume, lesion, n_samples):
    return smoothgrad(model, volume, lesion, n_samples=n_samples, generator=torch.Generator().manual_seed(2))


def literal(model, noisy, lesion):
    """The signed maximum for one noisy copy; also the cost of the forward pass and of one backward pass."""
    x, mask = noisy.clone(), torch.from_numpy(lesion)
    with frozen(model):
        start = clock()
        logits = whole_logits(model, x.requires_grad_())[0, 1][mask]
        forward, strongest = clock() - start, torch.zeros_like(x)
        for logit in logits:
            (gradient,) = torch.autograd.grad(logit, x, retain_graph=True)
            strongest = torch.where(gradient.abs() > strongest.abs(), gradient, strongest)
        backward = (clock() - start - forward) / len(logits)
    return strongest[0], forward, backward


def noisy_wholes(model, volume, lesion, n_samples):
    """Whole volumes with the noise that `explain` draws on the lesion's window."""
    shape = volume.shape[2:]
    window = find_window(model, lesion, shape)
    for copy in noisy_copies(volume, window, noise_sigma(volume, 0.05), n_samples, torch.Generator().manual_seed(2)):
        whole, inside = volume.clone(), (..., *window.within(shape))
        whole[inside] = window.paste(copy, shape)[inside]
        yield whole


def clock():
    """Wall-clock and processor time, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def cost(function, *arguments):
    start = clock()
    function(*arguments)
    return clock() - start


def peak_gb(function, *arguments):
    """Result, and memory that the call needed beyond what the process held before; Linux only, else NaN."""
    if not Path("/proc/self/clear_refs").exists():
        return function(*arguments), float("nan")
    ctypes.CDLL(None).malloc_trim(0)  # memory freed earlier does not count
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_gb("VmRSS")
    result = function(*arguments)
    return result, _status_gb("VmHWM") - before


def _status_gb(field):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**20


def compare(name, n_voxels, rounds):
    model, volume, lesion, copies = build(name), scan(SHAPE), ball(SHAPE, n_voxels), COPIES[name]
    few = part(lesion, LITERAL_VOXELS)
    found = cost(unsupported_reason, model, SHAPE)  # on every call

    _, our_gb = peak_gb(explain, model, volume, lesion, copies)
    _, literal_gb = peak_gb(literal, model, volume, few)

    costs, maps = [], []
    for noisy in noisy_wholes(model, volume, few, rounds):
        ours = cost(explain, model, volume, lesion, copies)
        strongest, forward, backward = literal(model, noisy, few)
        costs.append((ours, forward, backward))
        maps.append(strongest)
    expected, actual = torch.stack(maps).mean(0), explain(model, volume, few, rounds)
    error = float((actual - expected).abs().max() / expected.abs().max())
    ours, forward, backward = np.min(costs, 0)
    n_voxels = int(lesion.sum())
    ours, whole = ours / copies, forward + n_voxels * backward
    print(f"{name} U-Net {NETWORKS[name][0]}, {SHAPE}, lesion of {n_voxels} voxels, {torch.get_num_threads()} threads")
    print(
        f"  found on every call in {found[0]:.2f} s; without adjoint because: {unsupported_reason(model, SHAPE) or '-'}"
    )
    print("                 s a copy    s a voxel and copy   processor s a voxel and copy   peak GB")
    for label, total, memory in (("literal loop", whole, literal_gb), ("lib.saliency", ours, our_gb)):
        wall, processor = total / n_voxels
        print(f"  {label} {total[0]:10.2f} {wall:21.4f} {processor:30.4f} {memory:9.2f}")
    wall, processor = whole / ours
    print(f"  ratio {wall:17.0f}x {processor:50.0f}x {our_gb / literal_gb:9.2f}")
    print(f"  largest relative error of a map of {rounds} copies: {error:.1e}\n")


def compare_cam(name, n_voxels):
    model, volume, lesion, layer = build(name), scan(SHAPE), ball(SHAPE, n_voxels), "model.1.submodule.2.conv"
    find_window(model, lesion, SHAPE)
    kept, mask = [], torch.from_numpy(lesion)

    def literal_gradient():
        hook = dict(model.named_modules())[layer].register_forward_hook(lambda *args: kept.append(args[2]))
        with frozen(model):
            logits = whole_logits(model, volume.clone().requires_grad_())
        hook.remove()
        return torch.autograd.grad(logits[0, 1][mask].sum(), kept[-1])

    literal_s, literal_gb = peak_gb(cost, literal_gradient)
    activations = layer_activations(model, volume, layer)
    shared_s, our_gb = peak_gb(cost, lambda: grad_cam(model, volume, lesion, layer=layer, activations=activations))
    once_s = cost(layer_activations, model, volume, layer)
    _report(f"Grad-CAM++, {name}", literal_s, shared_s, f"feature maps of the scan once: {once_s[0]:.2f} s")
    print(f"  peak GB: literal {literal_gb:.2f}, ours {our_gb:.2f}\n")


def compare_context(name, n_voxels, window=96):
    model, volume, lesion = build(name), scan(SHAPE), ball(SHAPE, n_voxels)
    find_window(model, lesion, SHAPE)
    radii_mm = range(35)
    with torch.no_grad():
        whole = whole_logits(model, volume).softmax(1)[0, 1][torch.from_numpy(lesion)].mean().item()
    start = clock()
    sliding = predict(model, volume[0], window=window)[lesion].mean()
    sliding_s = (clock() - start) * len(radii_mm)
    for label, side, literal_score in (("the whole volume", None, whole), (f"patches of {window}", window, sliding)):
        our_s = cost(lambda side: context_response(model, volume, lesion, radii_mm, (1, 1, 1), 0.5, window=side), side)
        everything = context_response(model, volume, lesion, [max(SHAPE) * 2], (1, 1, 1), 0.5, window=side)
        note = f"score with all tissue: ours {everything['score'][0]:.6f}, literal {literal_score:.6f}"
        _report(f"context experiment of {len(radii_mm)} radii, {name}, as {label}", sliding_s, our_s, note)
    print()


def compare_norm(title, model, shape, n_voxels, n_literal, timed, rounds=2):
    """Copies of a lesion of n_voxels with statistics held, {tolerance: how many of its voxels are timed}, in turns with the
    literal loop on n_literal voxels."""
    volume, lesion = scan(shape), ball(shape, n_voxels)
    held = {
        tolerance: held_copies(model, volume, part(lesion, number), tolerance, rounds)
        for tolerance, number in timed.items()
    }
    costs, memory, errors = {name: [] for name in ("literal", *timed)}, {}, {tolerance: [] for tolerance in timed}
    for _ in range(rounds):
        (_, forward, backward), memory["literal"] = peak_gb(literal, model, volume, part(lesion, n_literal))
        costs["literal"].append((forward[1] + n_voxels * backward[1]) / n_voxels)
        for tolerance, copies in held.items():
            ((seconds, error), gb), number = peak_gb(next, copies), min(timed[tolerance], n_voxels)
            memory[tolerance] = max(gb, memory.get(tolerance, 0))
            costs[tolerance].append(seconds / number)
            errors[tolerance].append(f"{error:.1e}")
    voxel = np.mean(costs["literal"])
    print(
        f"{title}, {shape}, lesion of {n_voxels} voxels: literal loop {voxel:.2f} s processor a voxel and copy", end=""
    )
    print(f" (from {n_literal} voxels), {memory['literal']:.2f} GB")
    for tolerance, number in timed.items():
        first, *further = costs[tolerance]
        print(
            f"  to {tolerance:.0e}, {min(number, n_voxels)} voxels: first copy {first:.2f} s a voxel ({voxel / first:.0f}x), "
            f"further ones {np.mean(further):.2f} s ({voxel / np.mean(further):.0f}x), "
            f"errors {', '.join(errors[tolerance])}; {memory[tolerance]:.2f} GB"
        )


def held_copies(model, volume, lesion, tolerance, n_samples):
    """Processor time, seconds, and error of each copy to a tolerance; the first has what is found on every call."""
    errors, options = [], {"generator": torch.Generator().manual_seed(2), "statistics": tolerance}
    copies = copy_maps(model, volume, lesion, n_samples=n_samples, measured=errors.append, **options)
    while True:
        start = clock()
        next(copies)
        yield (clock() - start)[1], errors[-1]


def part(lesion, n_voxels):
    """So many voxels of a lesion, as far apart as all of them."""
    voxels, few = np.argwhere(lesion), np.zeros_like(lesion)
    few[tuple(voxels[np.linspace(0, len(voxels) - 1, min(n_voxels, len(voxels))).astype(int)].T)] = True
    return few


def nnunet(channels=(32, 64, 128, 256, 320, 320)):
    """The default network of nnU-Net v2 for patches of 128 voxels a side, with random weights: six levels."""
    torch.manual_seed(0)
    strides = (1, 2, 2, 2, 2, 2)
    options = {"kernel_size": [3] * 6, "strides": strides, "upsample_kernel_size": strides[1:], "filters": channels}
    return nets.DynUNet(3, 2, 2, **options, norm_name=("instance", {"affine": True})).eval()


def compare_lesions(n_lesions, n_voxels, n_samples, rounds, shape):
    """The lesions of one scan together, and one at a time, in turns: their maps are the same."""
    torch.manual_seed(0)
    model, volume = build_network("dynunet").eval(), scan(shape)
    places = np.random.default_rng(0).integers(-(min(shape) // 3), min(shape) // 3, (n_lesions, 3))
    lesions = [np.roll(ball(shape, n_voxels), place, (0, 1, 2)) for place in places]
    options = {"n_samples": n_samples, "noise_fraction": 0.05, "layer": "", "peak_voxels": 8, "seed": 0}
    options |= {"statistics": TO_LESIONS}
    identities = [["scan", "TP", number] for number in range(n_lesions)]
    costs = []
    for _ in range(rounds):
        start = clock()
        of_all, between = list(scan_maps(model, volume[0], lesions, identities=identities, **options)), clock()
        pairs = zip(lesions, identities, strict=True)
        of_each = [lesion_maps(model, volume[0], lesion, identity=identity, **options) for lesion, identity in pairs]
        costs.append((between - start, clock() - between))
    same = all(np.array_equal(a[name], b[name]) for a, b in zip(of_all, of_each, strict=True) for name in a)
    together, alone = np.min(costs, 0)[:, 1]
    print(
        f"paper's DynUNet, {shape}, {n_lesions} lesions of {n_voxels} voxels, all maps of {n_samples} copies to {TO_LESIONS:.0e}: "
        f"together {together:.1f} s processor, one at a time {alone:.1f} s ({alone / together:.1f}x); "
        f"maps are {'the same' if same else 'DIFFERENT'}"
    )


def lst_ai(**sizes):
    """LST-AI's mean of three networks, with random weights, read from files in its layout."""
    with tempfile.TemporaryDirectory() as folder:
        for letter in "ABC":
            torch.manual_seed(ord(letter))
            kept = {"config": sizes, "state_dict": LstUNet(**sizes).state_dict()}
            torch.save(kept, Path(folder, f"UNet3D_MS_final_mdl{letter}.pt"))
        return load_weights(folder)[0]


def compare_tools(tools, n_voxels):
    """Seconds for the signed maximum of a lesion, one noisy copy, of the networks of other tools.

    tools: {name: (model, shape of what it is given, `statistics`)}.  The literal loop is timed on one voxel.
    """
    for name, (model, shape, statistics) in tools.items():
        volume, lesion, found = scan(shape), ball(shape, n_voxels), []
        options = {"n_samples": 1, "statistics": statistics, "measured": found.append}
        options["generator"] = torch.Generator().manual_seed(2)
        (ours, _), gb = peak_gb(
            cost, lambda model=model, given=(volume, lesion), how=options: smoothgrad(model, *given, **how)
        )
        (_, forward, backward), _ = peak_gb(literal, model, volume, part(lesion, 1))
        whole = forward[0] + n_voxels * backward[0]
        print(
            f"{name}, {shape}, lesion of {n_voxels} voxels, statistics {statistics}: literal loop {whole:.1f} s, "
            f"ours {ours:.1f} s ({whole / ours:.1f}x), error {found[0]:.0e}, {gb:.2f} GB"
        )


def errors(name, model, n_voxels=4):
    """Largest relative error of one map, two copies, against the literal loop."""
    print(f"{name}: largest relative error to the literal loop")
    for shape in ((96, 96, 96), (101, 93, 87)):
        corner = np.zeros(shape, bool)
        corner[-2:, 0, :2] = True
        for place, lesion in (("middle", ball(shape, n_voxels)), ("corner", corner)):
            volume = scan(shape)
            noisy = noisy_wholes(model, volume, lesion, 2)
            expected = torch.stack([literal(model, whole, lesion)[0] for whole in noisy]).mean(0)
            difference = explain(model, volume, lesion, 2) - expected
            print(f"  {shape!s:16} {place}: {float(difference.abs().max() / expected.abs().max()):.1e}")
    print()


def _report(title, literal_s, our_s, note):
    ratio, processor = literal_s / our_s
    print(f"{title}: literal {literal_s[0]:.2f} s, ours {our_s[0]:.2f} s, {ratio:.0f}x ({processor:.0f}x processor)")
    print(f"  {note}")


def scaling(name="demo"):
    model, copies = build(name), COPIES[name]
    explain(model, scan(SHAPE), ball(SHAPE, 10), copies)
    print(f"{name} network, {copies} copies, processor time\nlesion voxels   s a lesion   ms a voxel and copy")
    for n_voxels in (6, 25, 100, 400):
        lesion = ball(SHAPE, n_voxels)
        time_s = min(cost(explain, model, scan(SHAPE), lesion, copies)[1] for _ in range(2))
        print(f"{lesion.sum():13d} {time_s:12.2f} {1000 * time_s / lesion.sum() / copies:12.2f}")
    print("scan size       s a lesion of 50 voxels")
    for shape in ((96, 96, 96), (128, 160, 128), (192, 224, 192), (256, 256, 256)):
        volume, lesion = scan(shape), ball(shape, 50)
        print(f"{shape!s:16}{min(cost(explain, model, volume, lesion, copies)[1] for _ in range(2)):10.2f}")
    print("lesions         s a scan")
    volume = scan(SHAPE)
    for n_lesions in (1, 2, 4):
        lesions = [np.roll(ball(SHAPE, 50), 12 * i, axis=1) for i in range(n_lesions)]
        print(
            f"{n_lesions:7d} {cost(lambda lesions: [explain(model, volume, x, copies) for x in lesions], lesions)[1]:16.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--voxels", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--weights", type=Path, help="trained weights, for their errors")
    parser.add_argument("--tiny", action="store_true", help="norm, lesions and tools on small patches: do they run?")
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.scaling:
        scaling()
        raise SystemExit
    for network in options.network:
        if "saliency" in options.part:
            compare(network, options.voxels, options.rounds)
        if "cam" in options.part:
            compare_cam(network, options.voxels)
        if "context" in options.part:
            compare_context(network, options.voxels)
        if "errors" in options.part:
            errors(f"{network} U-Net, random weights", build(network))
    if "norm" in options.part:
        torch.manual_seed(0)
        dynunet, n = build_network("dynunet").eval(), 8 if options.tiny else options.voxels
        (small, large), six = ((32, 64), nnunet((4, 4, 8, 8, 8, 8))) if options.tiny else ((96, 128), nnunet())
        compare_norm("paper's DynUNet", dynunet, (small,) * 3, n, LITERAL_VOXELS, {1e-3: n, 1e-4: 20})
        compare_norm("nnU-Net, six levels", six, (large,) * 3, n, 1, {1e-3: 20})
    if "lesions" in options.part:
        compare_lesions(*((3, 8, 2, 1, (32,) * 3) if options.tiny else (10, 20, 8, 1, (64,) * 3)))
    if "tools" in options.part:
        small, large, whole, wide = (32, 64, (48,) * 3, 4) if options.tiny else (96, 128, SHAPE, 32)
        six = nnunet((4, 4, 8, 8, 8, 8)) if options.tiny else nnunet()
        tools = {
            "the paper's U-Net": (build("paper"), whole, "exact"),
            "the paper's DynUNet": (build_network("dynunet").eval(), (small,) * 3, 1e-2),
            "nnU-Net's default": (six, (large,) * 3, 1e-2),
            "LST-AI": (lst_ai(n_filters=wide), (small,) * 3, 1e-2),
        }
        compare_tools(tools, TOOL_VOXELS)
    if options.weights:
        errors(str(options.weights), load_weights(options.weights, "cpu")[0])
