"""Which pods a request asked first, and why, in plain English."""

from typing import Final

from headgate_gateway.routing.stage import Speculation

PODS: Final = {"speculative": "pods that guess ahead", "plain": "plain pods"}
WHY: Final = {
    "absent": "no variant guesses",
    "never": "the route never wants guesses",
    "embeddings": "nothing is written",
    "tools": "it brings tools",
    "temperature": "its temperature is too high for guesses",
    "input": "its input is too long for guesses",
    "share": "it is of the share that goes there",
    "rest": "it is beyond the share that goes to others",
    "trial": "guessing is given up, and it is one of the few that try it",
    "acceptance": "guessing is given up, as too few guesses were right",
    "busy": "pods that guess are far busier",
    "benefit": "guessing is given up, as it saved too little",
}


def pool(found: Speculation) -> str:
    """Say which pods are asked first, and why.

    >>> pool(Speculation(pool="plain", outcome="shadow", reason="share"))
    'to plain pods by Shadow; Auto: to pods that guess ahead (it is of the share that goes there)'
    >>> pool(Speculation(pool="plain", outcome="plain", reason="rest", benefit_percent=-7))
    'to plain pods (it is beyond the share that goes to others; they took 7 % more time per token)'
    """
    other = PODS["plain" if found.pool == "speculative" else "speculative"]
    match found.outcome:
        case "shadow":
            to = f"to {PODS[found.pool]} by Shadow; Auto: to {other}"
        case "not_ready":
            to = f"to {PODS[found.pool]}; none of the {other} is ready"
        case _:
            to = f"to {PODS[found.pool]}"
    known = [WHY[found.reason]]
    if found.acceptance_percent is not None:
        known.append(f"{found.acceptance_percent} % of the guesses were right")
    if (saved := found.benefit_percent) is not None:
        slower = f"they took {-saved} % more time per token"
        known.append(slower if saved < 0 else f"they saved {saved} % of the time per token")
    return f"{to} ({'; '.join(known)})"
