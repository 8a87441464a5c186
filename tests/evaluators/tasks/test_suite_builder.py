"""What Suite.load accepts, refuses and warns about."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_tasks import documents, graded, load, make_model, make_tokenizer, score_part, write_task

from mergesmith.errors import UserError
from mergesmith.evaluators import EvaluationConfig, Suite, TaskConfig

pytestmark = pytest.mark.usefixtures("short_index")

DOCS = documents(150, seed=1)


def fault(root: Path, tasks: list[Any], **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(root, tasks, **settings)
    return str(caught.value)


def test_entries_and_counts(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    write_task(root / "tasks", "rolling", "rolling", docs=DOCS)
    suite = load(
        root, [{"name": "choice", "weight": 2, "max_drop": 0.1}, {"name": "rolling", "higher_is_better": True}]
    )
    choice, rolling = suite.entries
    assert (choice.metric, choice.filter, choice.sign, choice.bounded, choice.weight, choice.max_drop) == (
        ("acc", "none", 1, True, 2.0, 0.1)
    )
    assert (rolling.metric, rolling.sign, rolling.bounded) == ("word_perplexity", 1, False)
    assert sum(suite.counts(part)["choice"] for part in ("search", "select", "report")) == 150
    assert pickle.loads(pickle.dumps(suite.entries)) == suite.entries
    assert any("choice: the report part holds" in warning for warning in suite.warnings)


def test_a_custom_aggregation_survives_pickling(root: Path) -> None:
    metric = {"metric": "graded", "aggregation": "!function scoring.spread", "higher_is_better": False}
    write_task(root / "tasks", "spread", "generation", docs=DOCS, **graded(metric_list=[metric]))
    suite = load(root, ["spread"])
    (entry,) = pickle.loads(pickle.dumps(suite.entries))
    assert entry.sign == -1
    assert entry.leaves[0].aggregation.endswith("scoring.py:spread")
    from mergesmith.evaluators import entry_value

    scores = score_part(suite, make_model(), "select")
    values = scores.items["spread"].values
    assert entry_value(entry, scores) == pytest.approx(values.max() - values.min())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chioce", "tasks: chioce: unknown task 'chioce'. Did you mean 'choice'? Known: choice, gsm8k, piqa."),
        ("gsm8", "Did you mean 'gsm8k'?"),
    ],
)
def test_unknown_task(root: Path, name: str, expected: str) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    assert expected in fault(root, [name])


def test_unknown_metric_and_filter_are_collected(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    write_task(root / "tasks", "generation", "generation", docs=DOCS)
    text = fault(root, [{"name": "choice", "metric": "acc_nrm"}, {"name": "generation", "filter": "leters"}])
    assert "2 faults" in text
    assert "choice: unknown metric of choice 'acc_nrm'. Did you mean 'acc_norm'? Known: acc, acc_norm." in text
    assert "unknown filter of generation 'leters'. Did you mean 'letters'? Known: letters, plain." in text


def test_broken_yaml_names_file_and_reason(root: Path) -> None:
    path = root / "tasks" / "broken.yaml"
    path.write_text("task: broken\ndataset_path: [json\n")
    text = fault(root, ["broken"])
    assert str(path) in text
    assert "ParserError" in text


def test_an_unrelated_broken_file_is_a_warning(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    (root / "tasks" / "other.yaml").write_text("task: [other\n")
    (root / "tasks" / "fragment.yaml").write_text("dataset_path: json\n")
    warnings = [warning for warning in load(root, ["choice"]).warnings if "not a readable task" in warning]
    assert len(warnings) == 1
    assert "other.yaml" in warnings[0]


def test_missing_data_file(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    (root / "tasks" / "choice_test.jsonl").unlink()
    text = fault(root, ["choice"])
    assert "choice.yaml" in text
    assert "choice_test.jsonl" in text


def test_a_dataset_that_cannot_be_fetched(root: Path) -> None:
    write_task(root / "tasks", "far", "choice", docs=DOCS, dataset_path="nobody/no-such-data", dataset_kwargs={})
    text = fault(root, ["far"])
    assert "far.yaml" in text
    assert "nobody/no-such-data" in text


def test_templates_that_fail(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS, doc_to_text="{{nothing}}")
    assert "tasks: choice: " in fault(root, ["choice"])


def test_missing_folder_and_duplicate_names(root: Path) -> None:
    assert "there is no folder" in fault(root, ["choice"], task_path=[Path("taks")])
    assert "listed twice" in fault(root, ["choice", {"name": "choice", "metric": "acc"}])
    assert "at least one task" in fault(root, [])


def test_a_task_inside_a_listed_group(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    (root / "tasks" / "group.yaml").write_text("group: bundle\ntask: [choice]\n")
    assert "task 'choice' is already part of 'bundle'" in fault(root, ["bundle", "choice"])


def test_parts_that_are_too_small(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    text = fault(root, [{"name": "choice", "limit": 30}])
    assert "a split too small for its share: 'report' (share 0.2) holds" in text
    assert "of 30 items, at least 10 are needed; raise the task's limit" in text


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_corpus_metrics_are_rejected(root: Path, metric: str) -> None:
    write_task(root / "tasks", "translate", "generation", docs=DOCS, metric_list=[{"metric": metric}])
    assert f"metric '{metric}' of translate has no numeric value per item" in fault(root, ["translate"])


def test_code_execution_needs_permission_before_anything_is_loaded(root: Path) -> None:
    write_task(root / "tasks", "code", "generation", docs=DOCS, unsafe_code=True)
    (root / "tasks" / "group.yaml").write_text("group: bundle\ntask: [code]\n")
    (root / "tasks" / "code_test.jsonl").unlink()  # loading would fail on this
    for name in ("code", "bundle"):
        assert "pass --allow-code-execution" in fault(root, [name])
    assert "code_test.jsonl" in fault(root, ["code"], allow_code_execution=True)


def test_public_test_split_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    hub = datasets.DatasetDict({split: datasets.Dataset.from_list(DOCS) for split in ("test", "validation")})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_args, **_kwargs: hub)
    public: dict[str, Any] = {"docs": [], "dataset_path": "someone/benchmark", "dataset_kwargs": {}}
    write_task(root / "tasks", "tested", "choice", **public)
    write_task(root / "tasks", "validated", "choice", **public, test_split=None, validation_split="validation")
    warned = [warning for warning in load(root, ["tested", "validated"]).warnings if "public dataset" in warning]
    assert len(warned) == 1
    assert "tested: it is scored on split 'test' of the public dataset 'someone/benchmark'" in warned[0]


def test_chats_need_a_template_and_tokenizers_an_eos_token(root: Path) -> None:
    from mergesmith.evaluators import ChatConfig

    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    assert "no chat template" in fault(root, ["choice"], tokenizer=tokenizer, chat=ChatConfig(apply_template=True))
    tokenizer.eos_token = None
    assert "no end-of-sequence token" in fault(root, ["choice"], tokenizer=tokenizer)


def test_the_callers_tokenizer_is_not_changed(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    suite = load(root, ["choice"], tokenizer=tokenizer)
    suite.score(make_model(), suite.blocks("select")[0])
    assert tokenizer.pad_token is None


def test_prompts_longer_than_the_model(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    write_task(root / "tasks", "generation", "generation", docs=DOCS)
    suite = load(root, ["choice"], max_length=12)
    assert "prompts are longer than the model takes and lose their start" in suite.check(make_model())[0]
    with pytest.raises(UserError, match=r"asks for 6 new tokens .* only 6 positions"):
        load(root, ["generation"], max_length=6).check(make_model())


def test_digests_cover_documents_prompts_and_metric_but_not_paths(root: Path, tmp_path: Path) -> None:
    def digest(folder: str, name: str = "choice", docs: Any = DOCS, metric: str = "acc", **config: Any) -> str:
        place = tmp_path / folder
        write_task(place / "tasks", name, "choice", docs=docs, **config)
        return load(place, [{"name": name, "metric": metric}]).digests()[name]

    first = digest("a")
    assert digest("b") == first
    assert digest("c", docs=[*DOCS[:-1], documents(1, seed=5)[0]]) != first
    assert digest("d", metric="acc_norm") != first
    assert digest("e", doc_to_text="{{question}}?") != first


def test_import_is_light() -> None:
    heavy = "torch", "lm_eval", "datasets", "transformers"
    code = f"import sys, mergesmith.evaluators; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_tasks_need_to_be_configured(root: Path) -> None:
    write_task(root / "tasks", "choice", "choice", docs=DOCS)
    config = EvaluationConfig(tasks=(TaskConfig(name="choice"),), task_path=(Path("tasks"),))
    suite = Suite.load(config, tokenizer=make_tokenizer(), root=root)
    assert suite.content.config.split.search == 0.6
