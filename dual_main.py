"""The front door of mandoo: flags in, one verb out. `python dual_main.py --help` teaches."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import NoReturn

from absl import flags

from delf_ext.config import UsageError
from delf_ext.verbs.flags import FLAGS, new_flags

VERBS = {
    "train": "trains the dual-head network (the default verb)",
    "evaluate": "mAP and Recall@k of a run, or of a pretrained trunk as it is",
    "compare": "several systems side by side, with a paired test and a page of pictures",
    "infer": "the challenge's answer: every reference for every query, nearest first",
    "extract": "embeddings of a folder or data set, as .npz",
    "search": "the products most like a photograph",
    "rerank": "rankings made better by local features and geometry, or by any chain of re-rankers; before and after",
    "match": "two photographs and what local features find in common, as a picture",
    "whiten": "learns the PCA and whitening of DELF's local features",
    "export": "local features in hloc's layout (HDF5)",
    "draw": "draws a product data set; needs no download",
    "demo": "all of it on drawn products, in a few minutes",
}

EXAMPLES = """\
examples:
  python dual_main.py demo
  python dual_main.py --train_logits --train_sim --stop_gradient_sim
  python dual_main.py --data=photos/ --pretrained_model=resnet_v1_50.ckpt --train_logits --train_sim --run_dir=runs/first
  python dual_main.py --run_dir=runs/first --resume
  python dual_main.py evaluate --data=products.csv --run_dir=runs/first --json=first.json
  python dual_main.py evaluate --data=products.csv --pretrained_model=resnet_v1_50.ckpt --pooling=gem
  python dual_main.py compare --data=products.csv --runs=runs/first,runs/baseline --pretrained_model=resnet_v1_50.ckpt
  python dual_main.py search --data=photos/ --run_dir=runs/first --image=phone.jpg
  python dual_main.py rerank --data=products.csv --run_dir=runs/first --method=geometric:100 --out=reranked
  python dual_main.py rerank --data=covers.csv --run_dir=runs/first --local_features=sift --geometry_model=homography --out=covers
  python dual_main.py compare --data=products.csv --run_dir=runs/first --method="aqe:5@3;dba:10;k_reciprocal:20,6,0.3;diffusion"
  python dual_main.py infer --data=challenge/ --run_dir=runs/first --method=dba:10,aqe:5@3,k_reciprocal --time_budget=3000
  python dual_main.py match --image=phone.jpg --candidate=cover.jpg --local_features=sift --out=match.png
  python dual_main.py export --local_store=reranked/local/delf/gallery --out=features.h5"""


def help_text() -> str:
    lines = ["usage: python dual_main.py [VERB] [--flags]", "", "verbs:"]
    lines += [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    lines += ["", EXAMPLES]
    for group, entries in FLAGS.items():
        lines += ["", f"{group}:"]
        for name, default, text, *choices in entries:
            values = f" ({', '.join(choices[0])})" if choices else ""
            shown = "" if default in (None, False, []) else f" [{','.join(default) if isinstance(default, list) else default}]"
            lines.append(f"  --{name:<22} {text}{values}{shown}")
    return "\n".join(lines)


def parse(arguments: list[str]) -> tuple[str, flags.FlagValues]:
    """The verb and its flags. Exits 0 after --help, 2 on a usage error, naming the flag."""
    values = new_flags()
    if any(argument in ("--help", "-help", "-h", "--helpfull", "--helpshort") for argument in arguments):
        print(help_text())
        sys.exit(0)
    try:
        words = values(["dual_main.py", *arguments])[1:]
        verb = words[0] if words else "train"
        if verb not in VERBS or len(words) > 1:
            raise flags.Error(f"unknown word {words[-1]!r}. Verbs: {', '.join(VERBS)}.")
    except flags.Error as error:
        _end(f"usage error: {error} (--help lists all flags)", 2)
    return verb, values


def main(arguments: list[str] | None = None) -> None:
    """Runs one verb. What a user can mend ends in one line and exit 1; MANDOO_TRACEBACK=1 shows where it came from."""
    verb, values = parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it greets with three lines on CUDA
    try:
        importlib.import_module(f"delf_ext.verbs.{verb}").run(values)
    except KeyboardInterrupt:
        _end("\nstopped. A training run continues with --run_dir=... --resume.", 130)
    except UsageError as error:
        _end(f"usage error: {error} (--help lists all flags)", 2)
    except Exception as error:
        if os.environ.get("MANDOO_TRACEBACK") or not _is_users_business(error):
            raise
        _end(f"error: {_first_line(error)}", 1)


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _is_users_business(error: Exception) -> bool:
    """Bad input, unreadable files, full disks; TensorFlow reports the latter as its own errors."""
    return isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("tensorflow.python.framework.errors")


def _first_line(error: Exception) -> str:
    """Ours are one line, or a line and a report; TensorFlow's begin with a node of its graph and end with a stack."""
    text = str(error).strip()
    if not type(error).__module__.startswith("tensorflow"):
        return text
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", text.splitlines()[0])


if __name__ == "__main__":
    main()
