"""Tools that a path may call, a file each; `TOOLS` names them. Which tool a call means is said by the prompt form.

A tool is a function from text to text that never fails, answers within milliseconds and has no effect: what is wrong with an
argument is said in the answer, which the model reads. A decoder binds others to names that are declared here: an operator's
documents, and the servers that an operator lists (conclave.tools.mcp_servers). What has an effect, runs code or needs someone's
leave is called by the service `tools`, for a step (conclave.domain.external).
"""

from collections.abc import Callable

from conclave.tools import calculator, dates, expression, remote, units

Tool = Callable[[str], str]

TOOLS: dict[str, Tool] = {
    "calculator": calculator.calculate,
    "whole_calculator": calculator.calculate_whole,
    "units": units.convert,
    "dates": dates.reckon,
    "expression": expression.evaluate,
    "documents": remote.elsewhere,  # answered by the decoder, where it has a database
}
# Of those that an operator lists, the ones that no path may call, as they have an effect; and whether they need somebody's yes.
WITH_EFFECTS: dict[str, bool] = {}
