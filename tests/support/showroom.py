"""What the browser's tests look at: long galleries, prompts that mean harm, a placeholder, images in the making."""

from pipeline.model import Fault, Lora, Recipe

UNBROKEN = "W" * 110
RECIPE = Recipe(
    width=416, height=608, style="anime", steps=28, model="animagine.safetensors", cfg_scale=6.5,
    negative_prompt="lowres", scheduler="karras", loras=(Lora("film", 0.5),), params={"clip_skip": 2},
)  # fmt: skip
EVIL = '<img src=x onerror="document.title=1"> "quoted", & {braces}: #1'


async def fill(studio):
    await studio.made("john", n=130, recipe=Recipe(width=32, height=48))
    await studio.made("walter", n=70, recipe=Recipe(width=32, height=48), display=UNBROKEN)
    await studio.made("eve", n=1, owner="bob")
    studio.drawn = True
    await studio.made(
        "mary",
        prompts=["a portrait in a garden", EVIL, "at the harbour"],
        display="Mary <b>",
        recipe=RECIPE,
        labels=["spring"],
    )
    studio.drawn = False
    await studio.job("mary", prompts=["a lost one"])
    await studio.give_up("mary", 4, Fault("timed_out", "it took longer than 600 s"))
    await studio.job("mary", prompts=["still to come", "and another"], recipe=RECIPE)
