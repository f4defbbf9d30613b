"""What a ModelDeployment refers to: Secrets of its environment, and a chat template."""

from collections.abc import Iterator
from dataclasses import dataclass

from headgate_api.conditions import Mark, Reason
from headgate_api.modeldeployment import ModelDeployment
from headgate_controllers.contract import Key, Manifest, Note, Unreadable
from headgate_controllers.modeldeployment.observed import Observed
from headgate_controllers.standing import entry_fault, resolved
from headgate_policy.chat import check_template


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the references."""

    mark: Mark
    template: str | None
    """The chat template in force; None is the standard one."""
    usable: bool = True
    """False: there is a template to use, nobody has ever seen it, and nothing is in force yet."""


def references(manifest: Manifest) -> list[Key]:
    """Name the Secrets and ConfigMaps that a pass needs."""
    namespace, spec = manifest["metadata"]["namespace"], manifest["spec"]
    found = {
        Key("Secret", namespace, variable["secretKeyRef"]["name"])
        for variable in spec.get("runtime", {}).get("env", ())
        if "secretKeyRef" in variable
    }
    template = spec.get("model", {}).get("chatTemplate", {})
    if "configMapKeyRef" in template:
        found.add(Key("ConfigMap", namespace, template["configMapKeyRef"]["name"]))
    return sorted(found)


def resolve(seen: Observed, mdep: ModelDeployment) -> Resolved:
    """Check every reference, and find the chat template."""
    problems = [*_secrets(seen, mdep)]
    wanted = mdep.spec.model.chat_template
    template, usable = None, True
    if wanted is not None and wanted.inline is not None:
        template = wanted.inline
    elif wanted is not None:
        kept = seen.kept
        if fault := _template_fault(seen, mdep):
            problems.insert(0, fault)
            # The template in force stays. A model that never had one is held back: with another
            # template it would answer differently, and nobody would know why.
            template = None if kept is None else kept.chat_template
            usable = kept is not None
        else:
            template = seen.template
    return Resolved(resolved(problems), template, usable)


def _secrets(seen: Observed, mdep: ModelDeployment) -> Iterator[Note]:
    for variable in mdep.spec.runtime.env:
        if (ref := variable.secret_key_ref) is not None:
            field = f"spec.runtime.env[{variable.name}].secretKeyRef"
            key = Key("Secret", mdep.metadata.namespace, ref.name)
            if fault := _fault(seen, key, ref.key, field):
                yield fault


def _template_fault(seen: Observed, mdep: ModelDeployment) -> Note | None:
    wanted = mdep.spec.model.chat_template
    if wanted is None or (ref := wanted.config_map_key_ref) is None:
        return None
    field = "spec.model.chatTemplate.configMapKeyRef"
    key = Key("ConfigMap", mdep.metadata.namespace, ref.name)
    if fault := _fault(seen, key, ref.key, field):
        return fault
    kept = seen.kept
    if seen.template is None or (kept is not None and kept.chat_template == seen.template):
        return None  # it was checked when it came into force
    if sentence := check_template(seen.template):
        return Note(Reason.TEMPLATE_INVALID, f"{field}: {ref.key} of {ref.name}: {sentence}")
    return None


def _fault(seen: Observed, key: Key, entry: str, field: str) -> Note | None:
    return entry_fault(seen.entries.get(key, Unreadable("not read yet")), key, entry, field)
