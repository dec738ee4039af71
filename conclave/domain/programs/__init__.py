"""Path programs: a path as a conversation. From the turns so far a program says what comes next.

A program is a pure function, asked again after every turn: `Speak` has the model say something, `Call` a tool, `End` ends the
path. It remembers nothing but the turns, ends within the turns that its ask allows, and is total on any text. Text lives
in a path: what needs the model's words is a program, what needs decided answers is a strategy.
"""

from conclave.domain.programs import criticised, once, stated, structured, tools
from conclave.domain.programs.moves import End, Program, Speak

__all__ = ["PROGRAMS", "End", "Program", "Speak"]

PROGRAMS: dict[str, Program] = {
    "once": Program(once.next_turn),
    "tools": Program(tools.next_turn, min_turns=2),
    "criticised": Program(criticised.next_turn, forms=(criticised.CRITICISE, criticised.RETRY), min_turns=3),
    "structured": Program(structured.next_turn, forms=(structured.STRUCTURED,), min_turns=2),
    "stated": Program(stated.next_turn, forms=(stated.CONFIDENCE,), min_turns=2),
}
