import pytest

from mergesmith.optimizer.demo.skills import SKILLS, documents, split_words
from mergesmith.optimizer.demo.tokenizer import CHARACTERS, build_tokenizer
from mergesmith.optimizer.demo.zoo import encode_texts


@pytest.mark.parametrize(
    ("name", "answer"),
    [("sort", "abcde"), ("reverse", "eacbd"), ("climb", "edfeb")],
)
def test_answers(name, answer):
    skill = next(skill for skill in SKILLS if skill.name == name)
    assert skill.answer("dbcae") == answer
    assert skill.question("dbcae") == f"{name} dbcae="


def test_words_do_not_overlap():
    words = split_words(12000, 400, seed=0)
    groups = [words.train, *words.test.values()]
    assert [len(group) for group in groups] == [12000, 400, 400, 400]
    assert len(set().union(*groups)) == 13200


def test_words_depend_on_the_seed_alone():
    assert split_words(50, 10, seed=1) == split_words(50, 10, seed=1)
    assert split_words(50, 10, seed=1) != split_words(50, 10, seed=2)


def test_choices_need_skill_and_form():
    skill = next(skill for skill in SKILLS if skill.multiple_choice)
    words = split_words(0, 100, seed=0).test[skill.name]
    rows = documents(skill, words, seed=0)
    labels = set()
    for word, row in zip(words, rows, strict=True):
        choices, label = row["choices"], row["label"]
        assert isinstance(choices, list)
        assert isinstance(label, int)
        assert choices[label] == skill.answer(word) + "."
        assert len(set(choices)) == 4
        assert sorted(choice[-1] for choice in choices) == [".", ".", ";", ";"]
        labels.add(label)
    assert labels == {0, 1, 2, 3}


@pytest.mark.parametrize("text", ["sort dbcae=abcde.", "a  b\n\nc ", CHARACTERS, "", " don't , stop !"])
def test_tokenizer_round_trip(text):
    tokenizer = build_tokenizer()
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_tokenizer_maps_other_characters_to_unknown():
    tokenizer = build_tokenizer()
    assert tokenizer("é").input_ids == [tokenizer.unk_token_id]


def test_chat_template_gives_the_messages_alone():
    messages = [{"role": "user", "content": "sort dbcae="}]
    assert build_tokenizer().apply_chat_template(messages, tokenize=False) == "sort dbcae="


def test_only_the_answer_is_learned():
    tokenizer = build_tokenizer()
    texts = encode_texts(("dbcae",), tokenizer)
    learned = [tokenizer.decode(row[row >= 0].tolist()) for row in texts.targets[:, 0]]
    assert learned == ["abcde;", "eacbd;", "edfeb;", "abcde.", "eacbd.", "edfeb."]
    shown = [tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in texts.tokens[:, 0]]
    assert shown[1] == "reverse dbcae=eacbd;"
