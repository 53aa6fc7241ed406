import random

import pytest
from training.toon.captions import write_caption, write_change, write_negative
from training.toon.character import change_character, make_character
from training.toon.tokenizer import BEGIN, END, MAX_TOKENS, make_tokenizer
from transformers import CLIPTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_it_is_the_same_each_time(tokenizer):
    again = make_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert 1000 <= len(tokenizer) <= 1700
    assert tokenizer.convert_ids_to_tokens(len(tokenizer) - 1) == END
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_what_is_saved_reads_captions_as_before(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded.model_max_length == MAX_TOKENS
    assert loaded.pad_token_id == loaded.eos_token_id == len(loaded) - 1
    for seed in range(50):
        caption = write_caption(make_character(random.Random(seed)), random.Random(seed))
        ids = loaded(caption, padding="max_length", truncation=True).input_ids
        assert len(ids) == MAX_TOKENS
        assert ids[0] == loaded.bos_token_id
        assert ids[: ids.index(loaded.eos_token_id)] == tokenizer(caption).input_ids[:-1]
        assert loaded.decode(ids, skip_special_tokens=True).replace(" ", "") == caption.replace(" ", "")


def test_captions_fit_and_words_are_one_token(tokenizer):
    pieces = []
    for seed in range(300):
        rng = random.Random(seed)
        character = make_character(rng)
        ids = tokenizer(write_caption(character)).input_ids
        assert len(ids) <= MAX_TOKENS
        told = tokenizer.convert_ids_to_tokens(ids)[1:-1]
        assert all(piece.endswith("</w>") for piece in told), told
        changed, attribute = change_character(character, rng)
        for text in (write_change(character, changed, attribute, rng), write_negative(character, rng)):
            pieces += tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1]
    assert sum(piece.endswith("</w>") for piece in pieces) > 0.95 * len(pieces)


@pytest.mark.parametrize(
    "text",
    ["astronaut riding a horse", "façade, naïve", "ein bärtiger mann", "日本の少年", "👍 100%", "~`|\\^"],
)
def test_any_text_can_be_told(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_letters_in_either_case_are_one(tokenizer):
    assert tokenizer("A Young Man, BEARD").input_ids == tokenizer("a young man, beard").input_ids


def test_no_text_is_begin_and_end(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("").input_ids) == [BEGIN, END]
