"""Runs the tasks of this folder with lm-eval (EleutherAI's evaluation harness) on any model that it can drive."""
import hashlib
import logging
import os
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIKELIHOOD, GENERATION, CHAT = ["choices", "cloze", "rolling"], ["generate"], ["chat"]
# Nothing comes from a hub; what `datasets` caches goes with the process.
cache = tempfile.TemporaryDirectory()
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=cache.name, TQDM_DISABLE="1")
import datasets  # noqa: E402
import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

datasets.disable_progress_bars()
logging.getLogger("lm_eval").setLevel(logging.ERROR)


def run_tasks(names, model, model_args, **options):
    """-> for each task, what the model said to every request: [log-likelihood, greedy?], or a text, or a number."""
    before = os.getcwd()
    os.chdir(HERE)  # the tasks name their data by relative paths
    try:
        found = lm_eval.simple_evaluate(model=model, model_args=model_args, tasks=[f"stamp_{name}" for name in names],
                                        task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
                                        log_samples=True, bootstrap_iters=0, verbosity="ERROR", **options)
    finally:
        os.chdir(before)
    responses = {}
    for name in names:
        samples = sorted(found["samples"][f"stamp_{name}"], key=lambda sample: sample["doc_id"])
        responses[name] = [plain(response) for sample in samples for request in sample["resps"] for response in request]
    return responses


def tasks_sha256():
    """Over the tasks and their data."""
    digest = hashlib.sha256()
    for file in sorted([*HERE.glob("*.yaml"), *HERE.glob("*.jsonl")]):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def plain(response):
    if isinstance(response, (tuple, list)):
        return [float(response[0]), bool(response[1])]
    return response if isinstance(response, str) else float(response)
