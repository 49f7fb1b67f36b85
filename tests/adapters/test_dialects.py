"""Every way to name a tensor is read, and nothing that is near to one: a changed name, shape or number is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.adapters.lora import dialects, targets
from safelight.adapters.lora.blocks import ROWS, begins, row_of
from safelight.adapters.lora.dialects import BEGINNINGS, ENDINGS
from safelight.adapters.lora.file import made
from safelight.adapters.lora.plan import Plan, fit, looks_like, match
from safelight.adapters.lora.targets import Targets, released
from safelight.errors import ConfigError, RequestError, WeightsError
from tests.adapters.made import Tensors
from tests.adapters.named import FC, LDM_Q, Q, examples, layers, shape

SAID = {"lora_adapter_metadata": '{"unet.use_cayley_neumann": false}'}
"""What PEFT's turns do not say themselves."""


def plan(file: Tensors) -> Plan:
    return fit(made(file, "it", SAID).contents, layers())


@pytest.mark.parametrize("name", sorted(examples()))
def test_a_file_is_read_whole(name: str) -> None:
    file = examples()[name]
    found = plan(file)
    read = {tensor for row in found.rows for tensor in row.piece.names.values()}
    assert read == file.keys()


def loads(file: Tensors, there: Targets) -> bool:
    try:
        return not match(made(file, "it", SAID).contents, there).misses
    except WeightsError:
        return False


@pytest.mark.parametrize("rule", range(len(BEGINNINGS)))
def test_without_the_rule_of_a_beginning_a_file_is_refused(rule: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "BEGINNINGS", BEGINNINGS[:rule] + BEGINNINGS[rule + 1 :])
    there = Targets(layers().title, layers().parts)
    assert not all(loads(file, there) for file in examples().values()), BEGINNINGS[rule]


@pytest.mark.parametrize("rule", range(len(ENDINGS)))
def test_without_the_rule_of_an_ending_a_file_is_refused(rule: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = tuple(each for each in dialects._BY_LENGTH if each != ENDINGS[rule])
    monkeypatch.setattr(dialects, "_BY_LENGTH", rest)
    assert not all(loads(file, layers()) for file in examples().values()), ENDINGS[rule]


OPTIONAL = ("alpha", "rescale", "dora_scale", "vector", "vector.weight", "default", "vector.default.weight", "bias")
BOTH = ("diff_b", "b_norm", "diff")
"""Tensors without which a file of one layer is another whole file."""
SINGLE = (".weight", "_a", "_b", "w1", "w2", "t1", "t2")
WHOLE = [name for name in sorted(examples()) if len(examples()[name]) > 1]


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_changed_file_is_never_read(data: st.DataObject) -> None:
    file = dict(examples()[data.draw(st.sampled_from(WHOLE))])
    name = data.draw(st.sampled_from(sorted(file)))
    tensor = file.pop(name)
    ways = ["rename", "reshape", "unsound"] + ["drop"] * (not name.endswith((*OPTIONAL, *BOTH)) and len(file) > 0)
    if not name.endswith(SINGLE):
        ways = ["rename"]
    what = data.draw(st.sampled_from(ways))
    if what == "rename":
        place = data.draw(st.integers(0, len(name) - 1))
        letter = data.draw(st.sampled_from(["", "x", "7", "."]))
        file[name[:place] + letter + name[place + 1 :]] = tensor
    elif what == "reshape":
        file[name] = torch.cat([tensor, tensor])
    elif what == "unsound":
        file[name] = torch.full_like(tensor, float("nan"))
    if name in file and torch.equal(file[name], tensor):
        return
    with pytest.raises(WeightsError):
        plan(file)


def test_turns_of_peft_without_its_settings_are_refused() -> None:
    file = examples()["PEFT, OFT"]
    with pytest.raises(WeightsError, match=r"its adapter_config\.json must lie beside"):
        made(file, "it")
    with pytest.raises(WeightsError, match="with coft"):
        made(file, "it", {"lora_adapter_metadata": '{"unet.coft": true}'})


@pytest.mark.parametrize("said", ["[]", "{", '{"unet.lora_alpha": "x"}', '{"unet.rank_pattern": 3}'])
def test_damaged_settings_are_refused(said: str) -> None:
    with pytest.raises(ConfigError):
        made(examples()["PEFT"], "it", {"lora_adapter_metadata": said})


def test_what_a_file_looks_like_is_said() -> None:
    xl = next(each for each in released() if each.title.endswith("XL"))
    cross = Q.replace("attn1.to_q", "attn2.to_k")
    out, into = xl.layers["unet"][cross].weight
    stem = f"lora_unet_{LDM_Q.replace('attn1.to_q', 'attn2.to_k').replace('.', '_')}"
    file = {f"{stem}.lora_down.weight": torch.ones(4, into), f"{stem}.lora_up.weight": torch.ones(out, 4)}
    contents = made(file, "it").contents
    assert looks_like(contents) == xl.title
    with pytest.raises(WeightsError, match=f"it looks like {xl.title}, this model is sdxl"):
        plan(file)


def test_a_name_of_either_text_encoder_is_refused_unless_sizes_tell() -> None:
    down, up = (f"base_model.model.{FC}.lora_{which}.weight" for which in "AB")
    out, into = shape(f"text_encoder.{FC}")
    with pytest.raises(WeightsError, match=r"can be text_encoder\.\S+ or text_encoder_2\.\S+; the file does not say"):
        plan({down: torch.ones(2, into), up: torch.ones(out, 2)})
    wide = {part: dict(rows) for part, rows in layers().parts.items()}
    wide["text_encoder_2"][f"{FC}.weight"] = (out, into + 1)
    contents = made({down: torch.ones(2, into), up: torch.ones(out, 2)}, "it").contents
    (row,) = fit(contents, Targets("other", wide)).rows
    assert row.layer.part == "text_encoder"


@pytest.mark.parametrize("count", ROWS)
def test_customary_rows_of_numbers_are_of_blocks_that_are_there(count: int) -> None:
    kind = f"Stable Diffusion {'1' if count in (17, 26) else 'XL'}"
    there = next(each for each in released() if each.title == kind)
    names = [layer.full for rows in there.layers.values() for layer in rows.values()]
    for word in ROWS[count]:
        mine = [name for name in names for begin in begins(word) if name == begin or name.startswith(f"{begin}.")]
        assert mine, word
        attends = any(".attentions." in name for name in mine)
        assert count in (20, 26) or attends or word == "BASE", "a short row has the blocks that attend"
    every = {name for name in names for word in ROWS[count] for begin in begins(word) if name.startswith(f"{begin}.")}
    if count in (20, 26):
        ends = ("conv_in", "conv_out", "conv_norm_out", "time_embedding", "add_embedding")
        assert {name for name in names if not name.startswith(ends)} == {n for n in every if not n.startswith(ends)}


def test_a_row_of_numbers_is_read_by_blocks() -> None:
    found = plan(examples()["kohya"])
    row = row_of([0.5, 0, 0, 0, 0, 0.25, *[0.0] * 6], found)
    assert row == {"text_encoder": 0.5, "text_encoder_2": 0.5, "mid_block": 0.25}
    with pytest.raises(RequestError, match="has 12, 17, 20, 26 numbers, not 3"):
        row_of([1, 2, 3], found)
