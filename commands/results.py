from typing import Any

from django.utils.translation import gettext as _

from commands.models import Command, CommandResult
from files.formats import AltDocument, LastDocument


def result_of(command: Command, alt: AltDocument, last: LastDocument) -> CommandResult:
    """Return, not yet saved, what came out: the tasks in the order of the `.alt`, with what the `.last` says of each.

    What the runner reports beyond the `.alt` follows at the end; what it does not mention was not reported.
    """
    descriptions = {task.id: task.description for task in alt.tasks}
    extra = [task_id for task_id in last.task_results if task_id not in descriptions]
    tasks = [_task(task_id, descriptions.get(task_id, ""), last) for task_id in (*descriptions, *extra)]
    return CommandResult(
        command=command,
        success_rate=last.success_rate,
        summary=last.summary.strip(),
        # One below the other: what ends with a line break is not followed by an empty line.
        output="\n".join(output for task in tasks if (output := task["output"].rstrip("\r\n"))),
        tasks=tasks,
    )


def summary_of(result: CommandResult) -> str:
    """Return what the runner says in sum. If that is nothing, how many of the tasks succeeded."""
    if result.summary:
        return result.summary
    return _("%(percent)s %% of %(count)s tasks succeeded.") % {
        "percent": round(result.success_rate * 100),
        "count": len(result.tasks),
    }


def _task(task_id: str, description: str, last: LastDocument) -> dict[str, Any]:
    result = last.task_results.get(task_id)
    return {
        "id": task_id,
        "description": description,
        "status": result.status if result else "not_reported",
        "output": result.output if result else "",
        "error": (result.error or None) if result else None,
        "duration_ms": result.duration_ms if result else None,
    }
