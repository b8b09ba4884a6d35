"""The names of the projects that lines are kept apart by.

Rating knows ids, which the keys of lines are made of and which stay. People read names: what a bill or an invoice says
is the name at that moment, and what is looked up beside a line is today's.
"""

import re
from collections.abc import Mapping
from copy import replace
from typing import Protocol

from accounts.models import Organisation, Project
from accounts.remembering import remembered
from billing import rating

PROJECT_OF_KEY = re.compile(r":project=(proj_\w+)")


class LineLike(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...


def project_of(line: LineLike) -> str:
    """The public id of the one project whose usage the line charges; empty where it is not kept apart by project."""
    named = PROJECT_OF_KEY.search(line.key.replace(line.model, "", 1))  # a model may be called anything
    return named[1] if named else ""


@remembered
def project_names(organisation: Organisation) -> Mapping[str, str]:
    """By public id. No two projects of an organisation have the same name."""
    return dict(Project.objects.for_organisation(organisation).values_list("public_id", "name"))


def with_project_names(rated: rating.Rating, organisation: Organisation) -> rating.Rating:
    """The same, its descriptions with the names of projects instead of their ids."""
    names = project_names(organisation)
    return replace(rated, lines=tuple(_with_name(line, names) for line in rated.lines))


def _with_name(line: rating.Line, names: Mapping[str, str]) -> rating.Line:
    project = line.labels.get(rating.PROJECT, "")
    if project not in names:
        return line
    return replace(line, description=line.description.replace(project, f"project {names[project]}"))
