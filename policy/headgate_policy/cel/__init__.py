"""The CEL profile: rules over named facts, checked when they are written and compiled to run.

A controller asks `check` about each `when` and `acceptWhen`:

    match check(route.when, WHEN, headers=spec.match_headers):
        case Problem() as problem: ...  # str(problem) says where, what and how to repair it
        case Checked() as rule: ...

`Checked` has `text`, `words` (names referenced), `unmeasured` (those of them that nothing
measures yet), `constant` (True or False: no request changes the answer, and `remark` is a Problem
that says why; None: it depends) and `required(word)` (the values that a word must have for the rule
to hold).

The gateway compiles a policy's rules once, and asks per request:

    rules = [compile_rule(route.when, WHEN, headers=body.match_headers) for route in routes]
    rules[0].holds(features)
    rules[0].explain(features)  # what became of it and why
    Rules(rules).first(features)  # the index of the first rule that holds, or None

`features` has an attribute per word, named with `_` for each dot (`features.request_inputTokens`);
words that are costly to find are best computed when they are first read. A string is a `str`, a
list a `tuple`, a map a `dict`, and an optional word without a value is None. An attribute may be
read many times. A `fallible` rule has no value for some requests, and so does not hold: `decide` is
`holds`, but that it then raises `Failed`.
"""

from headgate_policy.cel.explain import Because, Told
from headgate_policy.cel.functions import Failed
from headgate_policy.cel.problems import Problem
from headgate_policy.cel.rules import Checked, Rule, Rules, check, compile_rule
from headgate_policy.cel.words import ACCEPT, WHEN, Table, Word

__all__ = [
    "ACCEPT",
    "WHEN",
    "Because",
    "Checked",
    "Failed",
    "Problem",
    "Rule",
    "Rules",
    "Table",
    "Told",
    "Word",
    "check",
    "compile_rule",
]
