import json
import random
import shutil
from typing import Any

import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergesmith.errors import UserError
from mergesmith.optimizer.demo import DemoSize, make_demo
from mergesmith.optimizer.demo.files import read_documents, task_name
from mergesmith.optimizer.demo.skills import SKILLS

SMALL = DemoSize(items=60, train_words=500, hidden=32, layers=2, base_steps=5, tune_steps=(5, 5, 5))
TINY = DemoSize(items=4, train_words=50, hidden=16, layers=1, base_steps=3, tune_steps=(2, 2, 2))
MODELS = ("base", *(skill.name for skill in SKILLS))


def quiet(line):
    del line


def weights(folder):
    return {name: load_file(folder / name / "model.safetensors") for name in MODELS}


def same(a, b):
    return all(torch.equal(a[m][name], b[m][name]) for m in MODELS for name in a[m])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert make_demo(folder, log=quiet, size=SMALL) == folder / "search.yaml"
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_checkpoint_loads(demo, name):
    model = AutoModelForCausalLM.from_pretrained(demo / name)
    tokenizer = AutoTokenizer.from_pretrained(demo / name)
    assert (demo / name / "generation_config.json").is_file()
    assert model.dtype == torch.float32
    assert model.config.tie_word_embeddings
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_specialists_differ(demo):
    found = weights(demo)
    for name in MODELS[1:]:
        assert found[name].keys() == found["base"].keys()
        assert any(not torch.equal(found[name][key], found["base"][key]) for key in found["base"])


def test_search_yaml_names_what_is_there(demo):
    config = yaml.safe_load((demo / "search.yaml").read_text(encoding="utf-8"))
    assert config["version"] == 1
    assert all((demo / path / "config.json").is_file() for path in (config["base_model"], *config["models"]))
    assert all((demo / "tasks" / f"{task}.yaml").is_file() for task in config["tasks"])
    assert config["search"] == {"sampler": "auto", "trials": 100, "seed": 0}


@pytest.fixture(scope="module")
def loaded(demo):
    """The tasks, with the data sets library's cache kept out of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", demo / "cache")
        manager = TaskManager(include_path=str(demo / "tasks"), include_defaults=False)
        return manager.load([task_name(skill) for skill in SKILLS])["tasks"]


def test_tasks_load_in_lm_eval(loaded):
    assert [len(loaded[task_name(skill)].test_docs()) for skill in SKILLS] == [60, 60, 60]


@torch.no_grad()
def own_accuracy(model, tokenizer, skill, row):
    """1 if the model's likeliest text, or likeliest choice, is the right one. Written apart from lm-eval."""
    question = tokenizer(row["question"], return_tensors="pt").input_ids
    if skill.multiple_choice:
        ends = tokenizer(row["choices"], return_tensors="pt").input_ids
        both = torch.cat([question.expand(len(ends), -1), ends], dim=1)
        logprobs = model(both).logits[:, question.shape[1] - 1 : -1].log_softmax(-1)
        return float(logprobs.gather(-1, ends[..., None]).sum((1, 2)).argmax() == row["label"])
    end = tokenizer(row["answer"] + ".", return_tensors="pt").input_ids
    logits = model(torch.cat([question, end], dim=1)).logits[:, question.shape[1] - 1 : -1]
    return float(torch.equal(logits.argmax(-1), end))


def test_lm_eval_scores_as_expected(demo, loaded):
    model = AutoModelForCausalLM.from_pretrained(demo / "climb").eval()
    torch.nn.init.normal_(next(model.parameters()), generator=torch.Generator().manual_seed(0))
    tokenizer = AutoTokenizer.from_pretrained(demo / "climb")
    wrap: Any = HFLM  # lm-eval's decorators hide both signatures from type checkers
    evaluate: Any = simple_evaluate
    lm = wrap(pretrained=model, tokenizer=tokenizer, batch_size=64)
    manager = TaskManager(include_defaults=False)  # else lm-eval indexes its 14,000 tasks
    result = evaluate(lm, tasks=list(loaded.values()), task_manager=manager, bootstrap_iters=0, log_samples=False)
    for skill in SKILLS:
        rows = read_documents(demo, skill)
        own = sum(own_accuracy(model, tokenizer, skill, row) for row in rows) / len(rows)
        metric = "acc,none" if skill.multiple_choice else "exact_match,none"
        assert result["results"][task_name(skill)][metric] == pytest.approx(own)
        if skill.multiple_choice:
            assert 0 < own < 1  # thanks to the random embeddings: the comparison says something


def test_same_seed_same_files(tmp_path):
    for name in "ab":
        make_demo(tmp_path / name, seed=3, log=quiet, size=TINY)
    make_demo(tmp_path / "c", seed=4, log=quiet, size=TINY)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert read_documents(tmp_path / "a", SKILLS[2]) == read_documents(tmp_path / "b", SKILLS[2])


def test_random_state_and_threads_are_restored(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = torch.get_rng_state(), random.getstate()
    try:
        make_demo(tmp_path, threads=1, log=quiet, size=TINY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_random_state_does_not_matter(tmp_path):
    for name, state in (("a", 1), ("b", 2)):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(state)
            make_demo(tmp_path / name, log=quiet, size=TINY)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_complete_folder_is_reused_even_when_moved(tmp_path):
    lines = []
    make_demo(tmp_path / "old", log=lines.append, size=TINY)
    assert len(lines) == 4
    shutil.move(tmp_path / "old", tmp_path / "new")
    stamp = (tmp_path / "new" / "base" / "model.safetensors").stat().st_mtime_ns
    assert make_demo(tmp_path / "new", log=lines.append, size=TINY) == tmp_path / "new" / "search.yaml"
    assert "there already" in lines[-1]
    assert (tmp_path / "new" / "base" / "model.safetensors").stat().st_mtime_ns == stamp
    task = yaml.safe_load((tmp_path / "new" / "tasks" / "demo_sort.yaml").read_text(encoding="utf-8"))
    assert task["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / "new" / "tasks" / "demo_sort.jsonl")


@pytest.mark.parametrize("missing", ["demo.json", "sort/model.safetensors", "search.yaml", "tasks/demo_sort.jsonl"])
def test_incomplete_folder_is_made_again(tmp_path, missing):
    lines = []
    make_demo(tmp_path, log=lines.append, size=TINY)
    (tmp_path / missing).unlink()
    make_demo(tmp_path, log=lines.append, size=TINY)
    assert len(lines) == 8
    assert (tmp_path / missing).is_file()


def test_other_demo_is_not_overwritten(tmp_path):
    make_demo(tmp_path, seed=1, log=quiet, size=TINY)
    with pytest.raises(UserError, match="Give another folder"):
        make_demo(tmp_path, seed=2, log=quiet, size=TINY)
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["seed"] == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(tmp_path, threads):
    with pytest.raises(ValueError, match="threads must be at least 1"):
        make_demo(tmp_path, threads=threads, log=quiet, size=TINY)


def test_items_must_leave_words_to_train_on(tmp_path):
    with pytest.raises(ValueError, match="words"):
        make_demo(tmp_path, log=quiet, size=DemoSize(items=10000))
