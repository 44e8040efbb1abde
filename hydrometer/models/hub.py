"""One quick question to the Hugging Face Hub before a model is loaded from it.

Loaders ask for every file apart and try each of them again and again, so that a misspelt id without a network costs
most of a minute. One request with a time limit tells whether the id exists and whether there is a network at all.
"""

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from hydrometer.models.family import FAMILY
from hydrometer.models.specs import ModelSpec

_TIMEOUT_S = 5.0


class HubRefusal(Exception):
    """The Hub has no such model; the text is for the user."""


def is_hub_reachable(spec: ModelSpec) -> bool:
    """Whether the model's files may be asked for over the network (else only those on this machine can be used).

    Raises:
        HubRefusal: the Hub answered that there is no such id or revision, or the id is not well-formed.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(spec.source, revision=spec.revision, timeout=_TIMEOUT_S)
    except RevisionNotFoundError as error:
        raise HubRefusal(f"'{spec.text}': the Hugging Face Hub has no revision '{spec.revision}' of it.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise HubRefusal(explain_unknown(spec, "the Hugging Face Hub has no such public model")) from error
    except Exception:  # whatever the http library of the day raises where there is no network: use what is here
        return False
    return True


def explain_unknown(spec: ModelSpec, found: str) -> str:
    """The message for an id that nothing answers to."""
    bundled = ", ".join(f"bundled:{name}" for name in FAMILY)
    return (
        f"Unknown model '{spec.text}': it is neither a folder here nor a bundled model, and {found}.\n"
        f"Bundled models are {bundled}."
    )
