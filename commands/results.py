from typing import Any

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
        summary=last.summary,
        output="\n".join(task["output"] for task in tasks if task["output"]),
        tasks=tasks,
    )


def _task(task_id: str, description: str, last: LastDocument) -> dict[str, Any]:
    result = last.task_results.get(task_id)
    return {
        "id": task_id,
        "description": description,
        "status": result.status if result else "not_reported",
        "output": result.output if result else "",
        "error": result.error if result else None,
        "duration_ms": result.duration_ms if result else None,
    }
