"""Tools that a path may call, a file each; `TOOLS` names them. Which tool a call means is said by the prompt form.

A tool is a function from text to text that never fails, answers within milliseconds and has no effect: what is wrong with an
argument is said in the answer, which the model reads. What runs code, reaches a network or needs someone's leave is no
tool but a service.
"""

from collections.abc import Callable

from conclave.tools import calculator, dates, expression, units

Tool = Callable[[str], str]

TOOLS: dict[str, Tool] = {
    "calculator": calculator.calculate,
    "whole_calculator": calculator.calculate_whole,
    "units": units.convert,
    "dates": dates.reckon,
    "expression": expression.evaluate,
}
