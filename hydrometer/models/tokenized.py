"""The text side of a model, which is the same whatever runs its weights: chat template, tokenizer, special tokens."""

from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedTokenizerBase

from hydrometer.errors import SpecError
from hydrometer.models.conventions import Conventions
from hydrometer.models.prompting import PromptFormat, knows_variable, open_turn, render_plain
from hydrometer.models.transformers_conventions import read_conventions
from hydrometer.types import Message


class TokenizedModel:
    """What `CausalModel` and `Conventional` promise of text.

    A base class, against the custom of this package: passing ten methods on one by one would say the same three times.
    """

    def __init__(
        self,
        spec: str,
        tokenizer: PreTrainedTokenizerBase,
        generation: GenerationConfig | None,
        output_size: int,
        prompt_format: PromptFormat,
    ):
        self.spec = spec
        self.tokenizer = tokenizer
        self.generation = generation
        self.output_size = output_size
        self.vocab_size = output_size
        self.eos_ids = _eos_ids(generation, tokenizer)
        self.prompt_format = prompt_format

    def token_strings(self) -> list[str | None]:
        """See `CausalModel`."""
        known = max(self.tokenizer.get_vocab().values(), default=-1) + 1  # len() would miss ids behind a gap
        size = min(known, self.output_size)
        return list(self.tokenizer.convert_ids_to_tokens(list(range(size))))

    def render(self, messages: tuple[Message, ...], *, assistant: str = "") -> tuple[int, ...]:
        """See `CausalModel`; errors as in `prompt_text`."""
        text = self.prompt_text(messages, assistant=assistant)
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        """See `Conventional`."""
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def conventions(self) -> Conventions:
        """See `Conventional`."""
        return read_conventions(self.tokenizer, self.generation)

    def prompt_text(self, messages: tuple[Message, ...], *, assistant: str = "") -> str:
        """See `CausalModel`.

        Raises:
            SpecError: there is no chat template and plain text was not asked for, or the template refuses the messages.
        """
        if self.chat_template is None and self.prompt_format.plain:
            return open_turn(self._beginning() + render_plain(messages), assistant)
        return open_turn(self._apply_template(messages, opens_answer=True), assistant)

    def finished_text(self, messages: tuple[Message, ...]) -> str:
        """See `Conventional`; errors as in `prompt_text`, also for plain text, which has no end of a turn."""
        return self._apply_template(messages, opens_answer=False)

    def _apply_template(self, messages: tuple[Message, ...], *, opens_answer: bool) -> str:
        template = self.chat_template
        if template is None:
            raise SpecError(
                f"'{self.spec}' has no chat template, so a question cannot be put to it. Use an instruct model, "
                "give a template (--chat-template FILE), or let base models see plain text (--plain-prompt)."
            )
        chat = [message._asdict() for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                chat,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=opens_answer,
                **self.prompt_format.kwargs,
            )
        except Exception as error:  # templates raise whatever their author chose
            raise SpecError(f"The chat template of '{self.spec}' refuses these messages: {error}") from error
        return str(text)

    @property
    def chat_template(self) -> str | None:
        """The template that prompts are written with; None where there is none."""
        if self.prompt_format.chat_template is not None:
            return self.prompt_format.chat_template
        return self.tokenizer.get_chat_template() if self.tokenizer.chat_template else None

    def knows_template_variable(self, name: str) -> bool:
        """Whether this model's chat template mentions a variable of that name."""
        template = self.chat_template
        return template is not None and knows_variable(template, name)

    def _beginning(self) -> str:
        """The token that plain text begins with, where the tokenizer puts one there by itself."""
        added = self.tokenizer("", add_special_tokens=True, verbose=False)["input_ids"]
        first = self.tokenizer.bos_token_id
        return str(self.tokenizer.bos_token) if first is not None and list(added)[:1] == [first] else ""

    def count_tokens(self, text: str) -> int:
        """See `CausalModel`."""
        return len(self.encode(text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """See `CausalModel`."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token_id: int) -> str:
        """See `CausalModel`."""
        return str(self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def _eos_ids(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = getattr(generation, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)
