"""The base of everything that can go wrong in a way a user may be told. Imports nothing of ours.

Each verb's module declares small subclasses beside the verb. Edges translate them: a page shows the sentence, the
REST API answers a problem with the code, a command prints both.
"""


class DomainError(Exception):
    """Something that was asked for cannot be done; nothing was changed."""

    # Stable: integrations compare it.
    code = "not_possible"
    # For the user: what is wrong and, where it helps, what to do.
    sentence = "That cannot be done."

    # What the REST API answers with: 409 when the state of things forbids it, 422 when the request itself is wrong.
    status = 409

    def __init__(self, sentence: str = "") -> None:
        self.sentence = sentence or self.sentence
        super().__init__(self.sentence)
