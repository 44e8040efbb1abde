"""Teachers: a model and what it sees besides the prefix, and its scores at every token of a response."""

from hydrometer.teachers.contexts import ContextSpec, TeacherPrompt, build_teacher_prompt, parse_context
from hydrometer.teachers.filler import blank_text
from hydrometer.teachers.scoring import PathScores, TeacherView, score_path
from hydrometer.teachers.specs import SELF, TeacherSpec, parse_teacher

__all__ = [
    "SELF",
    "ContextSpec",
    "PathScores",
    "TeacherPrompt",
    "TeacherSpec",
    "TeacherView",
    "blank_text",
    "build_teacher_prompt",
    "parse_context",
    "parse_teacher",
    "score_path",
]
