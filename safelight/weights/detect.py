"""Say what a file of weights is from its header alone: family, variant, parts, and what is missing or left over.

No torch, no network; the tables are those of `safelight.weights.variants`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from safelight.errors import WeightsError
from safelight.weights.dialects import Adapter, adapter
from safelight.weights.header import Entry, Header
from safelight.weights.keys import Move, Plan, Shape, matches
from safelight.weights.variants import DISTILLED, Part, Tables, Variant, expected, tables, tables_of

CROSS = ".attn2.to_k.weight"
VARIANT = "safelight.variant"
"""Where `safelight convert` says in the metadata what it wrote, for networks of sizes that nobody released."""
TASKS = {4: "text", 9: "inpaint", 5: "depth", 7: "upscale", 8: "edit"}
"""What a U-Net is for, by the channels that it reads."""
PARTS = {"clip": "text_encoder", "kunet": "unet"}
"""The part that a table is of, where they are not called the same."""
FREE = frozenset({"conv_in.weight", DISTILLED})
"""Tensors of a U-Net that differ with its task: what stands beside the latents, and the scale that it is told."""


@dataclass(frozen=True)
class Component:
    """One part of a model in a file.

    Attributes:
        part: of the released folder. table: of its rules. prefix: of its names in the file.
        plan: what becomes of every name; those of released folders keep theirs.
        shapes: of the tensors under their released names.
        parameters: numbers in it.
        full: whether it has the sizes of a released model; only then the next three mean anything.
        missing, extra: released names that are not there, and names there that are not released.
        bent: names whose shapes are not the released ones.
    """

    part: str
    table: str
    prefix: str
    plan: Plan
    shapes: Mapping[str, Shape]
    parameters: int
    full: bool = False
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    bent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a file is.

    Attributes:
        container: ``safetensors``, ``gguf``, ``pickle``. layout: ``ldm`` (single file), ``diffusers`` or ``adapter``.
        family, variant, title: where known, else empty.
        task: ``text``, ``inpaint`` and so on, where there is a U-Net.
        components: parts of a model. adapter: or what adapter it is.
        dtypes: numbers of each format.
        averaged: whether averaged weights lie beside the others.
        presets: what it may be for `safelight.multiview`, where it draws several views. reader: what reads it then.
        unread: names that say nothing. left: names that belong to nothing known.
        metadata: the file's own.
    """

    container: str
    layout: str
    family: str
    variant: str
    title: str
    task: str
    components: tuple[Component, ...]
    adapter: Adapter | None
    dtypes: Mapping[str, int]
    averaged: bool
    unread: tuple[str, ...]
    left: tuple[str, ...]
    metadata: Mapping[str, str]
    presets: tuple[str, ...] = ()
    reader: str = ""

    @property
    def parameters(self) -> int:
        """Numbers in the file."""
        return sum(self.dtypes.values())

    def component(self, part: str) -> Component | None:
        """The part of that name, if the file has it."""
        return next((each for each in self.components if each.part == part), None)


def detect(header: Header) -> Found:
    """Say what a file is; what is not known stays empty, nothing is an error."""
    shapes = header.shapes()
    made = adapter(shapes)
    for family in tables():
        said = header.metadata.get(VARIANT, "")
        variant, components = (None, ()) if made else _whole(family, shapes, said)
        layout = "ldm"
        if not made and not components:
            variant, components = _released(family, shapes, said)
            layout = "diffusers"
        unet = next((part for part in components if part.part == "unet" and part.full), None)
        if variant and unet and (row := nearest(family, variant, unet)) is not variant:
            beside = tuple(compared(family, row, part) for part in components)
            variant, components = row, _inside(family, row, shapes) if layout == "ldm" else beside
        if made and made.width and not family.told_by:
            variant = next((each for each in family.variants if each.width == made.width and not each.task), None)
        if components or (made and variant):
            kind = "adapter" if made else layout
            return _found(header, family, variant, components, kind, made)
    return _found(header, None, None, (), "adapter" if made else "", made)


def known(header: Header, path: object) -> tuple[Found, Variant]:
    """`detect`, for those who need to know the variant.

    Raises:
        WeightsError: the file is of no kind that is known; says what it looks like.
    """
    found = detect(header)
    for family in tables():
        if found.variant and found.family == family.name and found.layout != "adapter":
            unet = found.component("unet")
            return found, family.variant(found.variant).of(unet.shapes if unet else {})
    if found.adapter:
        raise WeightsError(
            f"{path}: is no model but an adapter ({found.adapter.kind}); load a model and lay it over that, by its kind"
            " with --lora, --control, --image-adapter or --embedding"
        )
    like = ", ".join(c.part for c in found.components) or f"its first tensor is {next(iter(header.entries), None)}"
    raise WeightsError(f"{path}: is no model that is known here ({like}); 'safelight inspect' shows what it holds")


def nearest(family: Tables, variant: Variant, unet: Component, pipeline: str = "") -> Variant:
    """The model of several views that a U-Net is of, or the variant that it was taken for.

    One of other shapes is another model's. Of two that fit as well it is the variant, unless its name or the class of
    ``model_index.json`` says that it draws views; of two that draw views it may be both, by their presets.
    """
    own, fits = (_faults(unet), True), []
    for row in family.views:
        plain = row.name != variant.name and row.pipeline != pipeline
        if (0, plain) < own:
            part = compared(family, row, unet)
            if part.full and not part.bent:
                fits.append(((_faults(part), plain), row))
    best = min([key for key, _ in fits], default=own)
    kinds = [row for key, row in fits if key == best < own]
    return replace(kinds[0], presets=tuple(name for row in kinds for name in row.presets)) if kinds else variant


def _faults(part: Component) -> int:
    return len(part.missing) + len(part.extra) + len(part.bent)


def _whole(family: Tables, shapes: Mapping[str, Shape], said: str) -> tuple[Variant | None, tuple[Component, ...]]:
    """The variant and the parts of a single file."""
    width = _width(family, shapes)
    by_name = [each for each in family.variants if each.has in shapes]
    by_width = [v for v in family.variants if (v.width == width or v.name == said) and v not in by_name]
    others = [each for each in family.variants if each not in by_name and each not in by_width]
    found: tuple[Variant | None, tuple[Component, ...]] = None, ()
    for variant in (*by_name, *by_width, *others):
        if found[1] and variant not in by_width:
            break
        components = _inside(family, variant, shapes)
        sure = variant in by_name or any(_tells(family, part) for part in components)
        if components and (sure or not found[1]):
            found = (variant if sure or variant in by_width else None), components
        if sure:
            break
    return found


def _tells(family: Tables, part: Component) -> bool:
    """Whether a part alone tells the variant: by its sizes, or by names that no other variant has."""
    users = [each for each in family.variants if any(own.table == part.table for own in each.parts)]
    return (part.full and part.part != "vae") or len(users) == 1


def _inside(family: Tables, variant: Variant, shapes: Mapping[str, Shape]) -> tuple[Component, ...]:
    """The parts of a variant that a single file holds; no part leaves over what another one with its prefix knows."""
    found = []
    for part in variant.parts:
        prefix = _prefix(family, part, shapes)
        if prefix is not None:
            inside = {name[len(prefix) :]: s for name, s in shapes.items() if name.startswith(prefix)}
            found.append(_component(family, variant, part, prefix, inside))
    used = {part.prefix + move.theirs for part in found for move in part.plan.moves}
    left = (tuple(name for name in part.plan.left if name not in used) for part in found)
    return tuple(replace(part, plan=replace(part.plan, left=names)) for part, names in zip(found, left))


def _width(family: Tables, shapes: Mapping[str, Shape]) -> int:
    """What tells the variants of a family apart; 0 where there is no trace of it."""
    ending = family.told_by or CROSS
    return next((s[-1] for name, s in shapes.items() if name.endswith(ending) and len(s) > 1), 0)


def _prefix(family: Tables, part: Part, shapes: Mapping[str, Shape]) -> str | None:
    table = family.keys.parts[part.table]
    for prefix in part.prefixes:
        if prefix + table.marker in shapes and not (table.never and prefix + table.never in shapes):
            return prefix
    return None


def _component(family: Tables, variant: Variant, part: Part, prefix: str, inside: Mapping[str, Shape]) -> Component:
    """What becomes of the names of one part of a single file, and how they compare with the released ones."""
    quiet = tuple(each for each in (*variant.unread, *family.keys.unread) if not matches(prefix, (each,)))
    skipped = dict.fromkeys(name for name in inside if matches(prefix + name, quiet))
    plan = family.keys.parts[part.table].to_ours(name for name in inside if name not in skipped)
    ours: dict[str, Shape] = {}
    moves, bent = [], []
    for move in plan.moves:
        shape = move.our_shape(inside[move.theirs])
        if shape is None:
            bent.append(move.theirs)
        else:
            moves.append(move)
            ours.update(dict.fromkeys(move.ours, shape))
    lost = tuple(prefix + name for name in (*plan.left, *bent))
    full = Plan(tuple(moves), tuple(prefix + name for name in (*plan.unread, *skipped)), lost)
    return compared(family, variant, Component(part.name, part.table, prefix, full, ours, _numbers(ours.values())))


def _released(family: Tables, shapes: Mapping[str, Shape], said: str) -> tuple[Variant | None, tuple[Component, ...]]:
    """The variant and the one part of a file of a released folder."""
    names = {name if name.startswith("text_") or not _bare(name) else f"text_model.{name}": name for name in shapes}
    ours = {name: shapes[old] for name, old in names.items()}
    width = _width(family, ours)
    fits = [each for each in family.variants if each.width == width or each.name == said]
    for table_name, table in family.keys.parts.items():
        if table.ours and ours.keys() >= set(table.ours):
            part = PARTS.get(table_name, table_name)
            like, place, _ = _likest(fits or family.variants, ours, part)
            return (like if fits else None), (_plain(family, table_name, place, ours, names, like),)
    for table_name in family.keys.parts:  # the names that a part is known by may be the ones that are missing
        part = PARTS.get(table_name, table_name)
        like, place, full = _likest(family.variants, ours, part)
        if full:
            return (like if fits else None), (_plain(family, table_name, place, ours, names, like),)
    return None, ()


def _plain(
    family: Tables, table: str, part: str, ours: Mapping[str, Shape], names: Mapping[str, str], variant: Variant
) -> Component:
    """A part under its released names, beside the stored header of a variant; ``names`` are those in the file."""
    kept = {name: shape for name, shape in ours.items() if not family.keys.parts[table].passes(name)}
    moves = tuple(Move((name,), names[name]) for name in kept)
    plan = Plan(moves, tuple(names[name] for name in ours if name not in kept))
    made = Component(part, table, "", plan, kept, _numbers(kept.values()))
    return replace(compared(family, variant, made), part=part.removesuffix("_2"))


def _likest(variants: Sequence[Variant], shapes: Mapping[str, Shape], part: str) -> tuple[Variant, str, bool]:
    """Whose stored header of a part, the first or the second, the shapes resemble most, and whether by half."""
    best, like, full = -1, (variants[0], part), False
    for variant in variants:
        stored = expected(tables_of(variant.family).folder)
        for place in (part, f"{part}_2"):
            header = stored.get(variant.expected.get(place, ""), {})
            same = sum(shapes.get(name) == shape for name, shape in header.items())
            if same > best:
                best, like, full = same, (variant, place), 2 * same >= len(header) > 0
    return *like, full


def _bare(name: str) -> bool:
    """Whether a text encoder's name lacks the prefix that the newest files leave out."""
    return name.startswith(("embeddings.token_embedding", "embeddings.position", "encoder.layers.", "final_layer_norm"))


def compared(family: Tables, variant: Variant, component: Component) -> Component:
    """The part beside the stored header of its variant, where it has about its sizes."""
    stored = family.header(variant, component.part)
    same = sum(component.shapes.get(name) == shape for name, shape in stored.items())
    component = replace(component, full=False, missing=(), extra=(), bent=())
    if not stored or same < len(stored) // 2:
        return component
    free = FREE if component.part == "unet" and not variant.presets else frozenset()
    shapes = component.shapes
    return replace(
        component,
        full=True,
        missing=tuple(name for name in stored if name not in shapes),
        extra=tuple(name for name in shapes if name not in stored and name not in free),
        bent=tuple(n for n, s in stored.items() if n in shapes and shapes[n] != s and n not in free),
    )


def _found(
    header: Header,
    family: Tables | None,
    variant: Variant | None,
    components: tuple[Component, ...],
    layout: str,
    made: Adapter | None,
) -> Found:
    dtypes: Counter[str] = Counter()
    for entry in header.entries.values():
        dtypes[entry.dtype] += entry.count
    unet = next((each for each in components if each.part == "unet"), None)
    first = unet.shapes.get("conv_in.weight", ()) if unet else ()
    channels = first[1] if len(first) == 4 else 0
    more = variant.unread if variant else ()
    unread, left = _rest(header.entries, family, more, components) if family and layout == "ldm" else ((), ())
    if family and layout == "diffusers":
        unread = components[0].plan.unread
    return Found(
        container=header.container,
        layout=layout,
        family=family.name if family else "",
        variant=variant.name if variant else "",
        title=variant.title if variant else family.title if family else "",
        task=(variant.task if variant else "") or TASKS.get(channels, ""),
        components=components,
        adapter=made,
        dtypes=dict(dtypes.most_common()),
        averaged=family is not None and any(name.startswith(family.keys.averaged) for name in header.entries),
        unread=unread,
        left=left,
        metadata=header.metadata,
        presets=variant.presets if variant else (),
        reader=variant.reader if variant else "",
    )


def _rest(
    names: Mapping[str, Entry], family: Tables, more: tuple[str, ...], components: tuple[Component, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that say nothing, also by the patterns in ``more``, and names that belong to no part or to no rule."""
    used = {component.prefix + move.theirs for component in components for move in component.plan.moves}
    lost = {name for component in components for name in component.plan.left}
    quiet = {name for component in components for name in component.plan.unread} - lost
    unread: list[str] = []
    left: list[str] = []
    for name in names:
        if name not in used:
            silent = name in quiet or family.keys.passes(name) or matches(name, more)
            (unread if silent else left).append(name)
    return tuple(unread), tuple(left)


def _numbers(shapes: Iterable[Shape]) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for length in shape:
            count *= length
        total += count
    return total
