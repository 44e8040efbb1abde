"""What to ask of a student and its teachers before a training run is paid for: `hydrometer probe KIND`.

config -> setup -> run -> one of prefix | continuation | aggregation | pattern -> tables and summary.json

    prefix        the teacher from its own start against the teacher continuing cut student responses
    continuation  what the teacher gains by taking over, by depth; how likely it finds the student's text
    aggregation   what a design of privileged information can never teach, because the student does not see it
    pattern       whether both think alike, and whether the teacher solves what the student does not
"""
