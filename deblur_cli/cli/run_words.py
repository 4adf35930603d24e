"""The words that every training command shares."""

from typing import Any

from deblur_cli.cli.words import option

DATA, PACE, RUN, BLUR, CHECK, MACHINE = "Data", "Optimisation", "Run", "Synthesised blur", "Validation", "Machine"


SAID: dict[str, Any] = {
    "data": option(
        DATA, "--data", metavar="DIR", help="The data set or the photographs; else DEBLUR_DATA or the cache."
    ),
    "dataset": option(
        DATA,
        "--dataset",
        metavar="NAME",
        help="gopro, hide, realblur-j, realblur-r, reds, pairs (any folder of pairs) or photos (any sharp photographs).",
    ),
    "blur_key": option(DATA, "--blur-key", metavar="NAME", help="blur or blur_gamma, where a set has both."),
    "subset": option(DATA, "--subset", help="Accept another number of pairs than the set is known to have."),
    "memory": option(
        DATA, "--memory", metavar="MB", help="Most memory for decoded images; 0: as much as they need and there is."
    ),
    "longest": option(DATA, "--longest", metavar="PX", help="Reduce larger photographs to this; 0: leave them."),
    "preview": option(DATA, "--preview", metavar="DIR", help="Write sheets of pairs to look at, and stop."),
    "steps": option(PACE, "--steps", metavar="N", help="Steps of the whole run, earlier spells included."),
    "epochs": option(PACE, "--epochs", metavar="N", help="The same in passes through the data; else the recipe's."),
    "batch": option(PACE, "--batch", metavar="N", help="Crops per step over all processes; else the recipe's."),
    "crop": option(PACE, "--crop", metavar="PX", help="Side of a crop; else the recipe's."),
    "lr": option(PACE, "--lr", metavar="RATE", help="Learning rate; else the recipe's."),
    "final_lr": option(PACE, "--final-lr", metavar="RATE", help="Learning rate of the last step; else the recipe's."),
    "warmup": option(
        PACE, "--warmup", metavar="N", help="Steps over which the learning rate rises; else the recipe's."
    ),
    "hold": option(PACE, "--hold", metavar="N", help="Steps before the learning rate begins to fall."),
    "optimiser": option(
        PACE, "--optimiser", metavar="adamw|adam|muon", help="muon learns from fewer crops; else the recipe's."
    ),
    "weight_decay": option(PACE, "--weight-decay", metavar="X", help="Of the optimiser; else the recipe's."),
    "clip": option(
        PACE, "--clip", metavar="NORM", help="Clip the gradient to this norm, 0: do not; else the recipe's."
    ),
    "ema": option(PACE, "--ema", metavar="DECAY", help="Of the averaged weights that are kept; 0: keep the last ones."),
    "seed": option(PACE, "--seed", metavar="N", help="The same seed gives the same run."),
    "out": option(RUN, "--out", metavar="DIR", help="Folder of the checkpoints and the log."),
    "resume": option(RUN, "--resume", help="Go on with the run in --out."),
    "max_time": option(RUN, "--max-time", metavar="TIME", help="Stop cleanly within 90s, 9m or 2h."),
    "save_every": option(RUN, "--save-every", metavar="TIME", help="Time between two saves."),
    "log_every": option(RUN, "--log-every", metavar="N", help="Steps between two lines of the log."),
    "tensorboard": option(RUN, "--tensorboard", help="Write TensorBoard's events too."),
    "shaken": option(
        BLUR, "--shaken", metavar="0..1", help="Share of batches that move as one piece: fast to make, never reused."
    ),
    "max_blur": option(BLUR, "--max-blur", metavar="PX", help="Longest motion."),
    "blur_skew": option(BLUR, "--blur-skew", metavar="X", help="1 draws its lengths evenly, 2 favours short ones."),
    "sharp_at": option(
        BLUR,
        "--sharp-at",
        metavar="mean|middle",
        help="Where the sharp side of these lies: in the mean of the movement, or at mid-exposure, as in GoPro.",
    ),
    "still": option(BLUR, "--still", metavar="0..1", help="Share of pairs without any blur."),
    "objects": option(
        BLUR, "--objects", metavar="0..1", help="Share of blurred crops with something that moves by itself."
    ),
    "trembling": option(
        BLUR,
        "--trembling",
        metavar="0..1",
        help="Share of blurred crops whose camera trembles, so that its path winds.",
    ),
    "soft": option(
        BLUR, "--soft", metavar="0..1", help="Share of the crops shaken as one piece that are out of focus too."
    ),
    "noise": option(BLUR, "--noise", metavar="0..1", help="Share of crops with sensor noise."),
    "read_noise": option(BLUR, "--read-noise", metavar="SIGMA", help="Its largest standard deviation."),
    "jpeg": option(BLUR, "--jpeg", metavar="0..1", help="Share of crops that went through JPEG."),
    "kernels": option(
        BLUR,
        "--kernels",
        metavar="PATH",
        help="Measured kernels of camera shake, .npy, .png or .mat: a file, or a folder of them.",
    ),
    "kernel_share": option(
        BLUR, "--kernel-share", metavar="0..1", help="Share of blurred crops under one of them in place of a movement."
    ),
    "reuse": option(
        BLUR, "--reuse", metavar="N", help="How often a pair is used on the CPU, each time another part of it."
    ),
    "pool_size": option(BLUR, "--pool-size", metavar="N", help="Pairs held at a time on the CPU."),
    "room": option(BLUR, "--room", metavar="PX", help="By how much they are larger than a crop."),
    "val": option(
        CHECK,
        "--val",
        metavar="DIR",
        help="Pairs, or sharp photographs, to validate on; else the set's own test split, or --hold-out.",
    ),
    "val_every": option(CHECK, "--val-every", metavar="N", help="Steps between two validations."),
    "val_count": option(CHECK, "--val-count", metavar="N", help="Most images to validate on; 0: do not."),
    "val_crop": option(CHECK, "--val-crop", metavar="PX", help="Side of the middle of each that is looked at."),
    "hold_out": option(
        CHECK, "--hold-out", metavar="N", help="Photographs kept for validation where --val is not said."
    ),
    "device": option(MACHINE, "--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to train."),
    "precision": option(
        MACHINE, "--precision", metavar="auto|fp32|bf16|fp16", help="What the forward pass computes in."
    ),
    "compile": option(MACHINE, "--compile", help="Compile the net with torch.compile."),
    "threads": option(
        MACHINE,
        "--threads",
        metavar="N",
        help="That compute; on a busy processor fewer are faster. 0: as torch chooses.",
    ),
    "workers": option(MACHINE, "--workers", metavar="N", help="Processes or threads that prepare data."),
    "profile": option(MACHINE, "--profile", help="Measure the speed and save nothing."),
}
