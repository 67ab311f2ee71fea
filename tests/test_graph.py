"""Workflows as ComfyUI exports them, bound without a change: the table says where each value goes."""

import json
from pathlib import Path

import pytest

from pipeline.backends.binding import LINKS, PLACEHOLDER, TITLE, bind, role_of
from pipeline.backends.filling import fill, notes
from pipeline.backends.graph import WorkflowError, load_workflow, read_workflow
from pipeline.errors import InvalidRequest
from pipeline.model import Lora, Recipe
from tests.support.comfyui_emulator import Comfy
from tests.support.pictures import TICKET, request

WORKFLOWS = Path(__file__).parent / "workflows"

SD15 = {
    "prompt": "6.text",
    "negative_prompt": "7.text",
    "seed": "3.seed",
    "width": "5.width",
    "height": "5.height",
    "model": "4.ckpt_name",
    "steps": "3.steps",
    "cfg_scale": "3.cfg",
    "sampler_name": "3.sampler_name",
    "scheduler": "3.scheduler",
    "output": "9.filename_prefix",
}
FLUX = {
    "prompt": "6.text",
    "negative_prompt": None,
    "seed": "25.noise_seed",
    "width": "27.width",
    "height": "27.height",
    "model": "12.unet_name",
    "steps": "17.steps",
    "cfg_scale": "26.guidance",
    "sampler_name": "16.sampler_name",
    "scheduler": "17.scheduler",
}
BINDINGS = {
    "sd15": SD15,
    "controlnet": SD15,
    "lora_chain": SD15,
    "img2img": SD15 | {"width": None, "height": None},
    "primitives": SD15 | {"prompt": "10.value", "seed": "13.value", "width": "11.value", "height": "12.value"},
    "hires_fix": SD15 | {"seed": "3.seed 11.seed", "cfg_scale": "3.cfg 11.cfg", "output": "13.filename_prefix"},
    "sdxl_encoders": SD15 | {"prompt": "6.text_g 6.text_l", "negative_prompt": "7.text_g 7.text_l"},
    "sdxl_refiner": SD15
    | {
        "prompt": "6.text 15.text",
        "negative_prompt": "7.text 16.text",
        "seed": "10.noise_seed 11.noise_seed",
        "steps": "10.steps 11.steps",
        "cfg_scale": "10.cfg 11.cfg",
        "sampler_name": "10.sampler_name 11.sampler_name",
        "scheduler": "10.scheduler 11.scheduler",
        "output": "19.filename_prefix",
    },
    "flux": FLUX,
    "flux_cfg_guider": FLUX | {"prompt": "6.clip_l 6.t5xxl", "negative_prompt": "41.text", "cfg_scale": "6.guidance"},
    "flux_ksampler": FLUX
    | {
        "seed": "31.seed",
        "model": "38.unet_name",
        "steps": "31.steps",
        "cfg_scale": "35.guidance",
        "sampler_name": "31.sampler_name",
        "scheduler": "31.scheduler",
    },
    "titles": {
        "prompt": "6.text",
        "negative_prompt": "7.text",
        "seed": "30.value",
        "width": "5.width 22.width",
        "height": "5.height 22.height",
        "model": "4.ckpt_name",
        "steps": None,
    },
    "placeholders": SD15 | {"seed": "3.seed 6.text"},
    "no_seed": {"prompt": "2.value", "seed": None, "width": "1.width", "height": "1.height"},
}

AMBIGUOUS = {
    "two_samplers": ["prompt", "node 3 (KSampler)", 'node 20 (KSampler "second")', 'title "prompt"', "{{prompt}}"],
    "two_savers": ["several images", "node 9 (SaveImage", 'node 25 (SaveImage "Save the dog")', 'title "output"'],
    "concat": ["positive side of node 3", "node 6 (CLIPTextEncode", "node 10 (CLIPTextEncode", 'title "prompt"'],
    "preview_only": ["SaveImage"],
    "ui_format": ["Export (API)", "nodes and links"],
    "dangling": ["node 8 (VAEDecode", "samples", "node 99"],
}


def exported(name):
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def bound(raw):
    return bind(read_workflow(json.dumps(raw).encode(), source="anime.json"))


def filled(name, **changes):
    return fill(bind(load_workflow(WORKFLOWS / f"{name}.json")), request(**changes))


def value(graph, where):
    node, _, name = where.partition(".")
    return graph[node]["inputs"][name]


def node(kind, title=None, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


@pytest.mark.parametrize("name", sorted(BINDINGS))
def test_exported_workflows_bind_as_expected(name):
    lines = bind(load_workflow(WORKFLOWS / f"{name}.json")).describe()
    found = {}
    for line in lines:
        found.setdefault(line.key, []).append(f"{line.node}.{line.input}")
    found = {key: " ".join(where) for key, where in found.items()}
    expected = BINDINGS[name]
    assert {key: found.get(key) for key in expected} == expected
    assert set(found) <= set(expected) | {"output"}


@pytest.mark.parametrize("name", sorted(AMBIGUOUS))
def test_what_cannot_be_told_is_refused_with_candidates_and_remedy(name):
    with pytest.raises(WorkflowError) as caught:
        bind(load_workflow(WORKFLOWS / f"{name}.json"))
    said = str(caught.value)
    assert f"{name}.json" in said
    assert [hint for hint in AMBIGUOUS[name] if hint not in said] == []


def test_describe_says_how_each_input_was_found():
    how = {line.key: line.how for line in bind(load_workflow(WORKFLOWS / "titles.json")).describe()}
    assert (how["prompt"], how["model"]) == (TITLE, LINKS)
    how = {line.key: line.how for line in bind(load_workflow(WORKFLOWS / "placeholders.json")).describe()}
    assert how["steps"] == PLACEHOLDER
    first = bind(load_workflow(WORKFLOWS / "titles.json")).describe()[0]
    assert first.kind == "CLIPTextEncode"


FULL = Recipe(
    width=832,
    height=1216,
    negative_prompt="blurry",
    model="animagine.safetensors",
    steps=30,
    cfg_scale=5.5,
    sampler_name="DPM++ 2M",
    scheduler="Karras",
)
SET = {
    "prompt": "a cat",
    "negative_prompt": "blurry",
    "seed": 77,
    "width": 832,
    "height": 1216,
    "model": "animagine.safetensors",
    "steps": 30,
    "cfg_scale": 5.5,
    "sampler_name": "dpmpp_2m",
    "scheduler": "karras",
}


@pytest.mark.parametrize("name", sorted(set(BINDINGS) - {"placeholders", "no_seed"}))
def test_every_bound_input_gets_its_value_and_nothing_else_changes(name):
    expected = {key: where for key, where in BINDINGS[name].items() if where and key != "output"}
    recipe = Recipe()._replace(**{key: getattr(FULL, key) for key in expected if hasattr(FULL, key)})
    graph = filled(name, prompt="a cat", seed=77, recipe=recipe)
    for key, places in expected.items():
        assert [value(graph, where) for where in places.split()] == [SET[key]] * len(places.split())
    untouched = {
        (key, name)
        for key, one in exported(name).items()
        for name, before in one["inputs"].items()
        if isinstance(before, list) and graph[key]["inputs"][name] != before
    }
    assert untouched == set()
    saver = next(
        line.node for line in bind(load_workflow(WORKFLOWS / f"{name}.json")).describe() if line.key == "output"
    )
    assert value(graph, f"{saver}.filename_prefix") == f"pipeline/{TICKET}"


@pytest.mark.parametrize("name", [None, *sorted(set(BINDINGS) - {"titles", "no_seed", "placeholders"})])
def test_a_filled_workflow_is_a_valid_graph(name):
    """The emulator checks links, types and choices as ComfyUI's own validation does; the built-in one included."""
    comfy = Comfy(clock=lambda: 0.0)
    comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0].append("m.safetensors")
    binding = bind(load_workflow(None if name is None else WORKFLOWS / f"{name}.json"))
    loras = (Lora("detail.safetensors", 0.5), Lora("style/ink.safetensors", 1.2))
    recipe = Recipe(model="m.safetensors" if name is None else None, loras=loras)
    graph = fill(binding, request(recipe=recipe))
    reply = comfy.handle("POST", "/prompt", {}, json.dumps({"prompt": graph, "prompt_id": TICKET}).encode())
    assert (reply.status, json.loads(reply.body)["node_errors"]) == (200, {})


def test_the_built_in_workflow_takes_every_key_of_a_job():
    binding = bind(load_workflow(None))
    assert {line.key for line in binding.describe()} == {*SD15}
    graph = fill(
        binding, request(prompt="a cat", seed=5, recipe=FULL._replace(loras=(Lora("detail.safetensors", 0.7),)))
    )
    kinds = {"CheckpointLoaderSimple", "LoraLoader", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode"}
    assert {one["class_type"] for one in graph.values()} == kinds | {"SaveImage"}
    assert len(graph) == 8
    assert value(graph, "1.ckpt_name") == "animagine.safetensors"
    lora = graph["8"]["inputs"]
    assert (lora["model"], lora["clip"], lora["lora_name"]) == (["1", 0], ["1", 1], "detail.safetensors")
    assert (lora["strength_model"], lora["strength_clip"]) == (0.7, 0.7)
    assert value(graph, "5.model") == ["8", 0]
    assert value(graph, "2.clip") == value(graph, "3.clip") == ["8", 1]
    assert value(graph, "6.vae") == ["1", 2]


def test_what_a_job_leaves_open_stays_as_exported():
    graph = filled("sd15", recipe=Recipe())
    assert value(graph, "3.steps") == 20
    assert value(graph, "7.text") == "text, watermark"
    assert (value(graph, "5.width"), value(graph, "5.height")) == (1024, 1536)
    assert value(graph, "5.batch_size") == 1, "four were exported: each would be paid for"


def test_loras_go_between_the_loader_and_what_it_fed():
    new = Lora("hat.safetensors", 0.4)
    graph = filled("lora_chain", recipe=Recipe(loras=(new, Lora("detail.safetensors", 0.25))))
    assert value(graph, "13.lora_name") == "hat.safetensors"
    assert (value(graph, "13.model"), value(graph, "13.clip")) == (["4", 0], ["4", 1])
    assert (value(graph, "10.model"), value(graph, "10.clip")) == (["13", 0], ["13", 1])
    assert (value(graph, "10.strength_model"), value(graph, "10.strength_clip")) == (0.25, 0.25), "not loaded twice"
    assert "14" not in graph


def test_loras_of_a_refiner_workflow_leave_the_refiner_alone():
    graph = filled("sdxl_refiner", recipe=Recipe(loras=(Lora("detail.safetensors"),)))
    assert (value(graph, "10.model"), value(graph, "6.clip")) == (["20", 0], ["20", 1])
    assert (value(graph, "11.model"), value(graph, "15.clip")) == (["12", 0], ["12", 1])


def test_without_a_clip_to_be_found_loras_go_to_the_model_alone():
    raw = exported("sd15")
    raw["6"] = node("TextEncodeApi", "prompt", text="x")
    del raw["7"], raw["3"]["inputs"]["negative"]
    graph = fill(bound(raw), request(recipe=Recipe(loras=(Lora("detail.safetensors"),))))
    assert graph["10"]["class_type"] == "LoraLoaderModelOnly"
    assert value(graph, "3.model") == ["10", 0]


def test_loras_without_a_model_are_refused():
    with pytest.raises(InvalidRequest, match="LoRAs"):
        filled("no_seed", recipe=Recipe(loras=(Lora("detail.safetensors"),)))


def test_size_and_steps_take_along_what_repeats_or_depends_on_them():
    graph = filled("sdxl_encoders", recipe=Recipe(width=832, height=1216))
    assert [value(graph, f"{n}.{i}") for n in "67" for i in ("width", "target_width")] == [832] * 4
    assert [value(graph, f"{n}.{i}") for n in "67" for i in ("height", "target_height")] == [1216] * 4
    graph = filled("hires_fix", recipe=Recipe(width=640, height=960, steps=30))
    assert (value(graph, "10.width"), value(graph, "10.height")) == (1280, 1920), "the upscale keeps its factor"
    assert (value(graph, "3.steps"), value(graph, "11.steps")) == (30, 14), "the second pass has its own"
    graph = filled("sdxl_refiner", recipe=Recipe(steps=50))
    assert (value(graph, "10.end_at_step"), value(graph, "11.start_at_step")) == (40, 40)
    assert value(graph, "11.end_at_step") == 10000
    graph = filled("flux", recipe=Recipe(width=512, height=768))
    assert (value(graph, "30.width"), value(graph, "30.height")) == (512, 768)
    assert value(filled("flux_cfg_guider", recipe=Recipe(steps=40)), "18.step") == 20


def test_placeholders_keep_their_type_alone_and_become_text_within_text():
    recipe = FULL._replace(params={"mood": "calm", "denoise": 0.75})
    graph = filled("placeholders", prompt="a cat", seed=77, recipe=recipe)
    assert value(graph, "6.text") == "masterpiece, a cat, seed 77, calm"
    assert value(graph, "3.denoise") == 0.75
    for key, where in SD15.items():
        if key not in ("prompt", "output"):
            assert value(graph, where) == SET[key], key


def test_a_prompt_with_braces_is_not_filled_in_again():
    graph = filled("sd15", prompt="{{seed}} and {{nonsense}}")
    assert value(graph, "6.text") == "{{seed}} and {{nonsense}}"


def test_placeholders_without_a_value_are_refused_by_name():
    with pytest.raises(InvalidRequest, match=r"\{\{mood\}\}"):
        filled("placeholders", recipe=FULL._replace(params={"denoise": 1}))
    with pytest.raises(InvalidRequest, match="set steps in the job"):
        filled("placeholders", recipe=FULL._replace(steps=None, params={"mood": "", "denoise": 1}))
    raw = exported("sd15")
    raw["6"]["inputs"]["text"] = "{{prompt}}, {{promt}}"
    with pytest.raises(InvalidRequest, match=r"did you mean \{\{prompt\}\}"):
        fill(bound(raw), request())
    quiet = FULL._replace(negative_prompt=None, params={"mood": "", "denoise": 1})
    assert value(filled("placeholders", recipe=quiet), "7.text") == ""


@pytest.mark.parametrize(
    ("embedding", "prompt", "text"),
    [
        (None, "a cat", "a cat"),
        ("mary-v2", "a cat", "a cat, embedding:mary-v2"),
        ("mary-v2", "(embedding:mary-v2:1.1) smiling", "(embedding:mary-v2:1.1) smiling"),
        ("mary-v2", " ", "embedding:mary-v2"),
    ],
)
def test_an_embedding_is_named_in_the_positive_prompt_alone(embedding, prompt, text):
    graph = filled("sdxl_refiner", prompt=prompt, embedding=embedding)
    assert [value(graph, where) for where in ("6.text", "15.text")] == [text, text]
    assert "embedding" not in value(graph, "7.text")


@pytest.mark.parametrize(
    ("name", "changes", "hint"),
    [
        ("flux", {"negative_prompt": "blurry"}, "negative_prompt"),
        ("img2img", {"width": 640}, "width"),
        ("no_seed", {"steps": 20}, "steps"),
        ("titles", {"steps": 20}, "several samplers that do not build on each other could take steps"),
    ],
)
def test_a_key_the_workflow_has_no_input_for_is_refused(name, changes, hint):
    with pytest.raises(InvalidRequest, match=hint) as caught:
        filled(name, recipe=Recipe()._replace(**changes))
    assert caught.value.code == "no_input"


def test_defaults_and_empty_texts_are_no_reason_to_refuse():
    filled("img2img", recipe=Recipe())
    filled("flux", recipe=Recipe(negative_prompt=""))


def test_a_workflow_without_a_seed_makes_one_image_only():
    filled("no_seed", recipe=Recipe(), images_in_job=1)
    with pytest.raises(InvalidRequest, match='title "seed"') as caught:
        filled("no_seed", images_in_job=2)
    assert caught.value.code == "no_seed"


def test_notes_say_what_is_no_fault():
    def said(name, recipe=Recipe()):  # noqa: B008 - frozen
        return " ".join(notes(bind(load_workflow(WORKFLOWS / f"{name}.json")), recipe))

    assert "batch_size" in said("sd15")
    assert "no input for width" in said("img2img")
    assert "no seed input" in said("no_seed")
    assert "negative prompt is the workflow's own" in said("sd15")
    assert said("flux", Recipe()) == ""


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("denoise", "3.denoise"),
        ("3.denoise", "3.denoise"),
        ("ksampler.denoise", "3.denoise"),
        ("LoadImage.image", "12.image"),
    ],
)
def test_params_name_an_input_alone_or_with_its_node(key, where):
    raw = exported("controlnet")
    raw["12"]["_meta"]["title"] = "the pose"
    graph = fill(bound(raw), request(recipe=Recipe(params={key: "new"})))
    assert value(graph, where) == "new"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("denois", "has no input for params"),
        ("text", 'write "6.text"'),
        ("3.seed", "already from seed"),
        ("filename_prefix", "name of ours"),
        ("6.nothing", "has no input"),
    ],
)
def test_params_that_fit_nothing_or_too_much_are_refused(key, hint):
    with pytest.raises(InvalidRequest, match=hint):
        filled("sd15", recipe=Recipe(params={key: 1}))


@pytest.mark.parametrize(
    "wrapped", [lambda raw: {"prompt": raw}, lambda raw: {"input": {"workflow": raw}}, lambda raw: {"workflow": raw}]
)
def test_request_bodies_are_taken_out_of_their_wrapping(wrapped):
    assert bound(wrapped(exported("sd15"))).saver.id == "9"


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"not json", "is not JSON"),
        (b"[]", "holds no graph"),
        (b"{}", "holds no graph"),
        (b'{"1": {"inputs": {}}}', '"1" is not a node'),
        (b'{"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}', "no input for the prompt"),
    ],
)
def test_files_that_hold_no_workflow_are_refused(data, hint):
    with pytest.raises(WorkflowError, match=hint) as caught:
        bind(read_workflow(data, source="anime.json"))
    assert "anime.json" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(WorkflowError, match=r"missing\.json"):
        load_workflow(tmp_path / "missing.json")


def test_a_title_decides_between_samplers_and_between_savers():
    raw = exported("two_savers")
    raw["25"]["_meta"]["title"] = "Output"
    assert bound(raw).describe()[0].node == "21", "the second sampler alone leads to the second image"
    raw = exported("two_samplers")
    raw["20"]["_meta"]["title"] = "main"
    found = {line.key: line.node for line in bound(raw).describe()}
    assert (found["prompt"], found["seed"], found["width"]) == ("21", "20", "22")


def test_samplers_side_by_side_that_share_an_input_are_not_ambiguous_about_it():
    raw = exported("two_samplers")
    raw["20"]["inputs"]["positive"] = ["6", 0]
    raw["20"]["inputs"]["latent_image"] = ["5", 0]
    raw["20"]["_meta"]["title"] = raw["3"]["_meta"]["title"] = "seed"
    found = {}
    for line in bound(raw).describe():
        found.setdefault(line.key, []).append(line.node)
    assert (found["prompt"], found["width"], found["seed"]) == (["6"], ["5"], ["3", "20"])


def test_one_text_for_both_sides_is_the_prompt_alone():
    raw = exported("sd15")
    raw["3"]["inputs"]["negative"] = ["6", 0]
    binding = bound(raw)
    assert [widget.node.id for widget in binding.bound["prompt"].widgets] == ["6"]
    assert "negative_prompt" not in binding.bound


def test_a_second_loader_of_the_same_model_changes_along_and_a_refiner_does_not():
    raw = exported("sdxl_refiner")
    assert [line.node for line in bound(raw).describe() if line.key == "model"] == ["4"]
    raw["12"]["inputs"]["ckpt_name"] = raw["4"]["inputs"]["ckpt_name"]
    assert [line.node for line in bound(raw).describe() if line.key == "model"] == ["4", "12"]


def test_equal_texts_joined_into_one_are_one_prompt():
    raw = exported("concat")
    raw["10"]["inputs"]["text"] = raw["6"]["inputs"]["text"]
    assert [line.node for line in bound(raw).describe() if line.key == "prompt"] == ["6", "10"]


def test_a_text_put_together_from_parts_asks_for_a_placeholder():
    raw = exported("primitives")
    raw["10"] = node("StringConcatenate", string_a="a", string_b="b", delimiter=" ")
    with pytest.raises(WorkflowError, match=r"string_a, string_b, delimiter.*\{\{prompt\}\}"):
        bound(raw)
    raw["10"]["inputs"] |= {"string_a": "{{prompt}}"}
    assert value(fill(bound(raw), request(prompt="a cat")), "10.string_a") == "a cat"


def test_values_are_followed_through_nodes_that_pass_them_on():
    raw = exported("primitives")
    raw["20"] = node("Reroute (custom)", anything=["10", 0])
    raw["6"]["inputs"]["text"] = ["20", 0]
    raw["21"] = node("Seed (rgthree)", seed=4)
    raw["3"]["inputs"]["seed"] = ["21", 0]
    raw["22"] = node("Mystery", a=["13", 0], b=["13", 0])
    raw["5"]["inputs"]["width"] = ["22", 0]
    found = {line.key: f"{line.node}.{line.input}" for line in bound(raw).describe()}
    assert (found["prompt"], found["seed"], found.get("width")) == ("10.value", "21.seed", None)


def test_conditioning_is_followed_through_custom_nodes():
    raw = exported("sd15")
    raw["10"] = node("Any Switch", any_01=["6", 0], model=["4", 0])
    raw["3"]["inputs"]["positive"] = ["10", 0]
    assert bound(raw).describe()[0].node == "6"


def test_nodes_that_call_a_service_take_their_values_directly():
    raw = {
        "1": node("FluxProUltraImageNode", prompt="a dog", seed=1, width=512, height=512, steps=20),
        "2": node("SaveImage", filename_prefix="x", images=["1", 0]),
    }
    graph = fill(bound(raw), request(prompt="a cat", seed=9, recipe=Recipe(width=640, height=960)))
    assert graph["1"]["inputs"] == {"prompt": "a cat", "seed": 9, "width": 640, "height": 960, "steps": 20}


def test_loaders_that_encode_by_themselves_are_understood():
    raw = {
        "1": node(
            "Efficient Loader",
            ckpt_name="a",
            positive="cat",
            negative="bad",
            empty_latent_width=512,
            empty_latent_height=512,
        ),
        "2": node(
            "KSampler (Efficient)",
            seed=1,
            steps=2,
            cfg=3,
            model=["1", 0],
            positive=["1", 1],
            negative=["1", 2],
            latent_image=["1", 3],
        ),
        "3": node("SaveImage", filename_prefix="x", images=["2", 5]),
    }
    found = {line.key: f"{line.node}.{line.input}" for line in bound(raw).describe()}
    assert found["prompt"] == "1.positive"
    assert found["negative_prompt"] == "1.negative"
    assert (found["width"], found["model"]) == ("1.empty_latent_width", "1.ckpt_name")


def test_links_that_run_in_circles_end():
    raw = exported("sd15")
    raw["10"] = node("LoraLoader", lora_name="x", model=["11", 0], clip=["11", 1])
    raw["11"] = node("LoraLoader", lora_name="y", model=["10", 0], clip=["10", 1])
    raw["3"]["inputs"]["model"] = ["11", 0]
    raw["12"] = node("String", text=["13", 0])
    raw["13"] = node("String", text=["12", 0])
    raw["6"]["inputs"]["text"] = ["12", 0]
    raw["6"]["inputs"]["text_g"] = "g"
    binding = bound(raw)
    assert "model" not in binding.bound
    assert [widget.input for widget in binding.bound["prompt"].widgets] == ["text_g"]


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("Positive", "prompt"),
        ("NEGATIVE prompt", "negative_prompt"),
        ("noise_seed", "seed"),
        ("Checkpoint", "model"),
        ("cfg-scale", "cfg_scale"),
        ("CLIP Text Encode (Prompt)", None),
        ("KSampler", None),
    ],
)
def test_titles_are_read_whatever_their_case(title, role):
    assert role_of(title) == role
