"""What restores the photos of a run: the net that was asked for, on the library that can run it."""

from typing import TYPE_CHECKING

from deblur_cli.options.deblur import DeblurOptions

if TYPE_CHECKING:
    from deblur_cli.deblurrer import Deblurrer
    from deblur_cli.files.hub import Told
    from deblur_cli.onnxrunner import OnnxDeblurrer


def opened(options: DeblurOptions, fetching: "Told | None") -> "Deblurrer | OnnxDeblurrer":
    """The deblurrer, its weights fetched if need be.

    Raises:
        WeightsError, DeviceError, UsageError: as its own ``open``.
    """
    from deblur_cli.files import hub, origins, weights

    found = weights.find(options.weights, listed=options.weights_list, offline=options.offline, told=fetching)
    path = found.path
    if path.suffix.lower() == ".onnx":  # the one way that never imports torch
        from deblur_cli.onnxrunner import OnnxDeblurrer as Machine
    else:
        from deblur_cli.deblurrer import Deblurrer as Machine
        from deblur_cli.deblurrer import devices

        if options.max_memory is None:
            devices.keep_memory()
        else:
            devices.spare_memory()
    opened = Machine.open(
        path,
        device=options.device,
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        strength=options.strength,
        tta=options.tta,
        max_memory=options.max_memory,
        compile=options.compile,
    )
    told = found.entry is not None and found.entry.non_commercial  # by the row, when it was found
    if fetching and not told and (notice := origins.notice(opened.label)):
        fetching(hub.Noted(notice))
    return opened
