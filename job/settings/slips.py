"""Names and values that are nearly right: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

PREFIX = 3  # letters that a shortened word keeps at least
SAME_WORD = {"pct": "percent", "directory": "dir", "folder": "dir", "maximum": "max", "minimum": "min"}
UNITS = {"PCT", "PERCENT", "PERCENTAGE"}  # written behind a name that says it already
NOT_SLIPS = {"MODELS"}  # the list of models for `make run-all` and indexed jobs

# What other programs call the same thing. A platform may set such a name for its own ends, so these are no faults.
ELSEWHERE = {
    "ARCH": "MODEL",
    "ARCHITECTURE": "MODEL",
    "BACKBONE": "MODEL",
    "MODEL_ARCH": "MODEL",
    "MODEL_NAME": "MODEL",
    "MODEL_TYPE": "MODEL",
    "INPUT_PATH": "INPUT",
    "DATASET_NAME": "DATASET",
    "DATA_FOLDER": "DATA_DIR",
    "DATA_PATH": "DATA_DIR",
    "DATA_ROOT": "DATA_DIR",
    "DATASET_DIR": "DATA_DIR",
    "DATASET_PATH": "DATA_DIR",
    "DATASET_ROOT": "DATA_DIR",
    "DATASET_URL": "DATA_URL",
    "DATASET_LIMIT": "DATA_LIMIT",
    "DATA_SUBSET": "DATA_LIMIT",
    "MAX_SAMPLES": "DATA_LIMIT",
    "MAX_TRAIN_SAMPLES": "DATA_LIMIT",
    "EVALS": "MAX_EVALS",
    "MAX_TRIALS": "MAX_EVALS",
    "N_EVALS": "MAX_EVALS",
    "N_TRIALS": "MAX_EVALS",
    "NUM_EVALS": "MAX_EVALS",
    "NUM_SAMPLES": "MAX_EVALS",
    "NUM_TRIALS": "MAX_EVALS",
    "TRIALS": "MAX_EVALS",
    "MAX_EPOCHS": "TUNE_MAX_EPOCHS or EPOCHS",
    "EARLY_STOPPING": "PATIENCE",
    "EARLY_STOPPING_PATIENCE": "PATIENCE",
    "EARLY_STOP_PATIENCE": "PATIENCE",
    "LR": "LEARNING_RATE",
    "BASE_LR": "LEARNING_RATE",
    "INIT_LR": "LEARNING_RATE",
    "MAX_LR": "LR_MAX",
    "MIN_LR": "LR_MIN",
    "N_EPOCHS": "EPOCHS",
    "NUM_EPOCHS": "EPOCHS",
    "NUM_TRAIN_EPOCHS": "EPOCHS",
    "TRAIN_EPOCHS": "EPOCHS",
    "BATCH": "BATCH_SIZE",
    "BS": "BATCH_SIZE",
    "TRAIN_BATCH_SIZE": "BATCH_SIZE",
    "GLOBAL_SEED": "SEED",
    "MANUAL_SEED": "SEED",
    "RANDOM_SEED": "SEED",
    "RANDOM_STATE": "SEED",
    "RNG_SEED": "SEED",
    "PRETRAINED": "PRETRAINED_WEIGHTS",
    "PRETRAINED_MODEL": "PRETRAINED_WEIGHTS",
    "WEIGHTS": "PRETRAINED_WEIGHTS",
    "WEIGHTS_PATH": "PRETRAINED_WEIGHTS",
    "ACCELERATOR": "DEVICE",
    "AMP": "PRECISION",
    "DTYPE": "PRECISION",
    "MIXED_PRECISION": "PRECISION",
    "N_JOBS": "WORKERS",
    "N_WORKERS": "WORKERS",
    "NUM_WORKERS": "WORKERS",
    "ARTIFACT_DIR": "OUTPUT",
    "OUT_DIR": "OUTPUT",
    "OUTDIR": "OUTPUT",
    "OUTPUT_DIR": "OUTPUT",
    "OUTPUT_DIRECTORY": "OUTPUT",
    "OUTPUT_FOLDER": "OUTPUT",
    "OUTPUT_PATH": "OUTPUT",
    "RESULTS_DIR": "OUTPUT",
    "SAVE_DIR": "OUTPUT",
    "EXPERIMENT_NAME": "MLFLOW_EXPERIMENT_NAME",
    "RUN_NAME": "RUN_ID",
    "TRACKING_URI": "MLFLOW_TRACKING_URI",
    "LOG_DIR": "TENSORBOARD_DIR",
    "LOGDIR": "TENSORBOARD_DIR",
    "TB_DIR": "TENSORBOARD_DIR",
    "STEP_SUMMARY": "GITHUB_STEP_SUMMARY",
}


def did_you_mean(value: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def misspelled(environment: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Name that is set → the nearest of `ours`, where it is nearly one: it would silently do nothing.

    Capitals alone are judged: what another script calls in small letters is its own.
    """
    names = [name for name, value in sorted(environment.items()) if value and name == name.upper()]
    others = [name for name in names if name not in {*ours, *NOT_SLIPS, *ELSEWHERE}]
    near = {name: [own for own in sorted(ours) if nearly(name, own)] for name in others}
    return {name: found[0] for name, found in near.items() if found}


def foreign_names(environment: Mapping[str, str], ours: Collection[str]) -> list[str]:
    """A line for every name that is set and may be meant for one of `ours`: in small letters, or as others call it."""
    lines = []
    for name, value in sorted(environment.items()):
        if value and name not in ours and name.upper() in ours:
            lines.append(f"{name} is set, but only capitals count: write {name.upper()} if it is meant for this job")
        meant = ELSEWHERE.get(name, "")
        if value and meant and name not in ours and not any(environment.get(own) for own in meant.split(" or ")):
            lines.append(f"{name} is set, but this job does not read it: write {meant} if it is meant for this job")
    return lines


def nearly(name: str, own: str) -> bool:
    """Whether `name` is a likely slip for `own`. Short names are judged strictly: NODE is not MODE, nor SPEED SEED."""
    if same_words(name.split("_"), own.split("_")):
        return True
    if name[0] != own[0] or abs(len(name) - len(own)) > 2:
        return False
    if name.replace("_", "") == own.replace("_", "") or (len(name) == len(own) and sorted(name) == sorted(own)):
        return True
    if name in (own + "S", own[:-1]):
        return True
    return len(own) > 6 and difflib.SequenceMatcher(None, name, own, autojunk=False).ratio() >= 0.88


def same_words(words: list[str], own: list[str]) -> bool:
    """Whether `words` are those of a name of ours, each perhaps longer or shorter: TUNE_PERCENTAGE, MAX_EVALUATIONS.

    Of three words or more one may be missing, and a unit may stand behind them. At least one word is the very same.
    """
    if len(own) < 2:
        return False
    if words[:-1] == own and words[-1] in UNITS:
        return True
    if len(own) > 2 and any(words == own[:place] + own[place + 1 :] for place in range(len(own))):
        return True
    return (
        len(words) == len(own)
        and any(word == right for word, right in zip(words, own, strict=True))
        and all(same_word(word, right) for word, right in zip(words, own, strict=True))
    )


def same_word(word: str, own: str) -> bool:
    """PERCENTAGE, PERC and PCT are PERCENT; EVALUATIONS are EVALS, without the plural's S."""
    if word == own or SAME_WORD.get(word.lower()) == own.lower():
        return True
    short, long = sorted((word.rstrip("S"), own.rstrip("S")), key=len)
    return len(short) >= PREFIX and long.startswith(short)


def several(value: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """The choices that `value` names with commas between them, each once. Raises ValueError where one is none."""
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in choices:
            hint = did_you_mean(name, choices)
            raise ValueError(f"choose from: {', '.join(choices)}, several with commas between them{hint}")
    return names
