"""What the service does not draw: the rules for prompts, and how a block is told.

Terms of one rule are judged together: a word for a minor and a sexual one, anywhere in the same
prompt. A negative prompt is judged by what its absence would draw. Sexual content with minors is
always refused; further rules are the operator's choice.
Words are not meaning: the lists err towards refusing, and who is inventive gets around any list,
which is why pictures can be judged too (`engines/safety.py`). Nothing here needs torch or a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from ..errors import InferenceFailed
from . import lists
from .ages import find_adult_age, find_young_age
from .reading import Reading, Terms, plain_text, read_prompt, without

if TYPE_CHECKING:
    from ..settings import Settings

MINORS = "sexual content with minors"
OPERATOR = "what its operator has excluded"

_MINORS = Terms.parse(lists.MINORS)
_SEXUAL = Terms.parse(lists.EXPLICIT, lists.SUGGESTIVE, lists.MINORS_AND_SEXUAL)
_MINORS_AND_SEXUAL = Terms.parse(lists.MINORS_AND_SEXUAL)
_CLOTHING = Terms.parse(lists.CLOTHING)
_GARMENTS = Terms.parse(lists.GARMENTS)
_ADULTHOOD = Terms.parse(lists.ADULTHOOD)
_SWITCHED = {
    "sexual content": Terms.parse(lists.EXPLICIT),
    "graphic violence": Terms.parse(lists.VIOLENCE),
    "hateful symbols": Terms.parse(lists.HATE),
}


class ContentBlocked(InferenceFailed):
    """A job asks for, or brought, what the service does not draw.

    `stage` is prompt, input (a picture that was given) or output (the picture that was drawn). The
    message begins with the code and quotes nothing. `pictures` are the digests of those in `field` that
    are not drawn from.
    """

    default_code = "content_policy_violation"

    def __init__(
        self, stage: str, reason: str, field: str | None = None, pictures: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{self.default_code} ({stage}): {reason}.", field=field)
        self.stage = stage
        self.pictures = list(pictures)


class PromptPolicy:
    """The rules that a service goes by; what is always refused is among them."""

    def __init__(
        self, *, sexual: bool = False, violence: bool = False, hate: bool = False, terms: str = ""
    ) -> None:
        """`sexual`, `violence` and `hate` switch on further lists.

        `terms` are the operator's own, with commas between them: words, phrases, also with up to two
        words between (`taking off ... coat`), beginnings of words (`gun*`), and those that are refused
        only together (`child + gun`).
        """
        chosen = zip(_SWITCHED.items(), (sexual, violence, hate), strict=True)
        self._rules = [(words, [listed]) for (words, listed), is_on in chosen if is_on]
        for rule in filter(None, map(str.strip, terms.split(","))):
            self._rules.append((OPERATOR, [Terms.parse(term) for term in rule.split("+")]))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The policy that the settings describe."""
        return cls(
            sexual=settings.block_sexual,
            violence=settings.block_violence,
            hate=settings.block_hate,
            terms=settings.block_terms,
        )

    def check(self, prompt: str, negative_prompt: str = "") -> None:
        """Let a prompt pass, with its negative prompt, or refuse it.

        Raises:
            ContentBlocked: it asks for what is not drawn; which rule says so is told, not which word.
        """
        text, negative = plain_text(prompt), plain_text(negative_prompt)
        broken = self._find_rule(text, negative)
        # What only looks like a breach is looked for last: few prompts come so far.
        if broken is not None and self._find_rule(without(lists.HARMLESS, text), negative) is not None:
            raise ContentBlocked(
                "prompt", f"the prompt asks for {broken}, which this service does not draw; change it"
            )

    def _find_rule(self, text: str, negative: str) -> str | None:
        reading = read_prompt(text)
        if _MINORS.are_joined_in(reading, _SEXUAL):
            return MINORS
        if _SEXUAL.are_in(reading) and (_names_minors(reading) or (negative and _keeps_adults_out(negative))):
            return MINORS
        if negative and _keeps_clothing_out(negative) and _names_minors(reading):
            return MINORS
        for words, together in self._rules:
            if all(terms.are_in(reading) for terms in together):
                return words
        return None


def _names_minors(reading: Reading) -> bool:
    return find_young_age(reading.text) or _MINORS.are_in(reading) or _MINORS_AND_SEXUAL.are_in(reading)


def _keeps_clothing_out(negative: str) -> bool:
    """Whether a negative prompt undresses who is drawn; a single garment is only not wanted."""
    reading = read_prompt(negative)
    return _CLOTHING.are_in(reading) or _GARMENTS.count_words_in(reading) > 1


def _keeps_adults_out(negative: str) -> bool:
    """Whether a negative prompt makes who is drawn younger."""
    return find_adult_age(negative) or _ADULTHOOD.are_in(read_prompt(negative))
