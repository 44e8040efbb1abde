"""Teachers: a model and what it sees besides the prefix, and its scores at every token of a response."""

from hydrometer.teachers.contexts import FRAMES, PEER, SUMMARISED, ContextSpec, Frame, parse_context
from hydrometer.teachers.demonstrations import usable_demonstrations
from hydrometer.teachers.filler import blank_text
from hydrometer.teachers.instances import Belief, build_instances, draws_from_student
from hydrometer.teachers.log_ratios import response_log_ratios
from hydrometer.teachers.prompts import TeacherPrompt, build_teacher_prompt, needs_demonstrations, shown_demonstrations
from hydrometer.teachers.scoring import ListedCandidates, PathScores, TeacherView, score_paths
from hydrometer.teachers.specs import SELF, TeacherSpec, parse_teacher
from hydrometer.teachers.summaries import Summary, request_summary, screen_summary
from hydrometer.teachers.templates import TemplateFile, find_slots, read_templates

__all__ = [
    "FRAMES",
    "PEER",
    "SELF",
    "SUMMARISED",
    "Belief",
    "ContextSpec",
    "Frame",
    "ListedCandidates",
    "PathScores",
    "Summary",
    "TeacherPrompt",
    "TeacherSpec",
    "TeacherView",
    "TemplateFile",
    "blank_text",
    "build_instances",
    "build_teacher_prompt",
    "draws_from_student",
    "find_slots",
    "needs_demonstrations",
    "parse_context",
    "parse_teacher",
    "read_templates",
    "request_summary",
    "response_log_ratios",
    "score_paths",
    "screen_summary",
    "shown_demonstrations",
    "usable_demonstrations",
]
