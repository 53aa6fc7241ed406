"""What the tiny checkpoints of language models have in common: a tokenizer of Qwen's kind for bytes."""

from __future__ import annotations

from transformers import Qwen2Tokenizer

MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""A conversation, as Qwen3's own template writes one of a single message."""


def make_tokenizer() -> Qwen2Tokenizer:
    """A tokenizer in which each byte of a text is a token, and each mark is one."""
    vocabulary = {symbol: number for number, symbol in enumerate([*_list_bytes(), *MARKS])}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(MARKS[1:]),
        chat_template=CHAT,
        model_max_length=131072,
    )


def _list_bytes() -> list[str]:
    """The 256 symbols that byte-level BPE writes bytes with: printable ones as they are."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
