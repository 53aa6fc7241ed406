"""What a model that edits pictures is told of them: which is the character, and which the pose."""

from __future__ import annotations


def write_roles(prompt: str, references: int, posed: bool, word: str) -> str:
    """The prompt after sentences that say what each picture is for.

    `word` is what the model calls a picture. The pictures are the references (one or more), of one
    character, and after them the skeleton when `posed`.
    """
    numbers = "1" if references == 1 else f"1 {'and' if references == 2 else 'to'} {references}"
    sentences = [
        f"{word} 1 is the character."
        if references == 1
        else f"{word}s {numbers} are the same character, seen several times."
    ]
    if posed:
        sentences.append(
            f"{word} {references + 1} is an OpenPose skeleton: the character stands exactly as it does, at "
            "the same place and size, and none of its lines is drawn."
        )
    sentences.append(
        "Draw the character anew, with the same face, hair, body and clothes where nothing else is said: "
        f"{tame_text(prompt)}"
    )
    return " ".join(sentences)


def tame_text(text: str) -> str:
    """The text without marks that end a message or stand for a picture (`<|im_end|>`), which a
    language model's tokenizer would take for its own wherever they come from."""
    return text.replace("<|", "< |")
