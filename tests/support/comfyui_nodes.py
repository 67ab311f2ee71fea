"""The part of ComfyUI's /object_info that the tests' workflows need: inputs, their types and choices, and outputs."""

import copy

CHECKPOINTS = [
    "animagine.safetensors",
    "sd_xl_base_1.0.safetensors",
    "sd_xl_refiner_1.0.safetensors",
    "v1-5-pruned.ckpt",
]
LORAS = ["detail.safetensors", "style/ink.safetensors"]
EMBEDDINGS = ["mary-v2", "bad/easynegative"]
SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "uni_pc", "res_2s"]
SCHEDULERS = ["normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta"]

INT = ["INT", {"default": 1, "min": 0, "max": 2**64 - 1}]
SIDE = ["INT", {"default": 512, "min": 16, "max": 16384}]
FLOAT = ["FLOAT", {"default": 1.0}]
TEXT = ["STRING", {"multiline": True}]


def _node(outputs, *, out=False, optional=None, **required):
    told = {"input": {"required": required}, "output": outputs, "output_node": out}
    if optional:
        told["input"]["optional"] = optional
    return told


def _link(kind):
    return [kind]


MODEL, CLIP, VAE, COND, LATENT, IMAGE, STRING = map(
    _link, ("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "STRING")
)
LORA = {"lora_name": [LORAS], "strength_model": FLOAT}
LATENT_SIZE = {"width": SIDE, "height": SIDE, "batch_size": ["INT", {"min": 1, "max": 4096}]}
STEPS = {
    "steps": ["INT", {"min": 1, "max": 10000}],
    "cfg": FLOAT,
    "sampler_name": [SAMPLERS],
    "scheduler": [SCHEDULERS],
}
SIDES = {"model": MODEL, "positive": COND, "negative": COND, "latent_image": LATENT}

_INFO = {
    "CheckpointLoaderSimple": _node(["MODEL", "CLIP", "VAE"], ckpt_name=[CHECKPOINTS, {"tooltip": "the checkpoint"}]),
    "UNETLoader": _node(["MODEL"], unet_name=[["flux1-dev.safetensors"]], weight_dtype=[["default", "fp8_e4m3fn"]]),
    "DualCLIPLoader": _node(
        ["CLIP"],
        clip_name1=[["t5xxl_fp16.safetensors", "clip_l.safetensors"]],
        clip_name2=[["t5xxl_fp16.safetensors", "clip_l.safetensors"]],
        type=[["sdxl", "sd3", "flux"]],
    ),
    "VAELoader": _node(["VAE"], vae_name=["COMBO", {"options": ["ae.safetensors"]}]),
    "LoraLoader": _node(["MODEL", "CLIP"], model=MODEL, clip=CLIP, strength_clip=FLOAT, **LORA),
    "LoraLoaderModelOnly": _node(["MODEL"], model=MODEL, **LORA),
    "CLIPSetLastLayer": _node(["CLIP"], clip=CLIP, stop_at_clip_layer=["INT", {"min": -24, "max": -1}]),
    "CLIPTextEncode": _node(["CONDITIONING"], text=TEXT, clip=CLIP),
    "CLIPTextEncodeSDXL": _node(
        ["CONDITIONING"],
        clip=CLIP,
        width=INT,
        height=INT,
        crop_w=INT,
        crop_h=INT,
        target_width=INT,
        target_height=INT,
        text_g=TEXT,
        text_l=TEXT,
    ),
    "CLIPTextEncodeSDXLRefiner": _node(["CONDITIONING"], ascore=FLOAT, width=INT, height=INT, text=TEXT, clip=CLIP),
    "CLIPTextEncodeFlux": _node(["CONDITIONING"], clip=CLIP, clip_l=TEXT, t5xxl=TEXT, guidance=FLOAT),
    "FluxGuidance": _node(["CONDITIONING"], conditioning=COND, guidance=FLOAT),
    "ConditioningZeroOut": _node(["CONDITIONING"], conditioning=COND),
    "ConditioningConcat": _node(["CONDITIONING"], conditioning_to=COND, conditioning_from=COND),
    "ControlNetLoader": _node(["CONTROL_NET"], control_net_name=[["openpose.safetensors"]]),
    "ControlNetApplyAdvanced": _node(
        ["CONDITIONING", "CONDITIONING"],
        positive=COND,
        negative=COND,
        control_net=["CONTROL_NET"],
        image=IMAGE,
        strength=FLOAT,
        start_percent=FLOAT,
        end_percent=FLOAT,
    ),
    "LoadImage": _node(["IMAGE", "MASK"], image=[["pose.png"], {"image_upload": True}]),
    "VAEEncode": _node(["LATENT"], pixels=IMAGE, vae=VAE),
    "ImageScale": _node(
        ["IMAGE"], image=IMAGE, upscale_method=[["lanczos"]], width=INT, height=INT, crop=[["disabled", "center"]]
    ),
    "EmptyLatentImage": _node(["LATENT"], **LATENT_SIZE),
    "EmptySD3LatentImage": _node(["LATENT"], **LATENT_SIZE),
    "LatentUpscale": _node(
        ["LATENT"], samples=LATENT, upscale_method=[["nearest-exact"]], width=INT, height=INT, crop=[["disabled"]]
    ),
    "ModelSamplingFlux": _node(["MODEL"], model=MODEL, max_shift=FLOAT, base_shift=FLOAT, width=SIDE, height=SIDE),
    "KSampler": _node(["LATENT"], seed=INT, denoise=FLOAT, **STEPS, **SIDES),
    "KSamplerAdvanced": _node(
        ["LATENT"],
        add_noise=[["enable", "disable"]],
        noise_seed=INT,
        start_at_step=INT,
        end_at_step=INT,
        return_with_leftover_noise=[["disable", "enable"]],
        **STEPS,
        **SIDES,
    ),
    "RandomNoise": _node(["NOISE"], noise_seed=INT),
    "BasicGuider": _node(["GUIDER"], model=MODEL, conditioning=COND),
    "CFGGuider": _node(["GUIDER"], model=MODEL, positive=COND, negative=COND, cfg=FLOAT),
    "KSamplerSelect": _node(["SAMPLER"], sampler_name=[SAMPLERS]),
    "BasicScheduler": _node(["SIGMAS"], model=MODEL, scheduler=[SCHEDULERS], steps=INT, denoise=FLOAT),
    "SplitSigmas": _node(["SIGMAS", "SIGMAS"], sigmas=["SIGMAS"], step=INT),
    "SamplerCustomAdvanced": _node(
        ["LATENT", "LATENT"],
        noise=["NOISE"],
        guider=["GUIDER"],
        sampler=["SAMPLER"],
        sigmas=["SIGMAS"],
        latent_image=LATENT,
    ),
    "PrimitiveStringMultiline": _node(["STRING"], value=TEXT),
    "PrimitiveInt": _node(["INT"], value=INT),
    "StringConcatenate": _node(["STRING"], string_a=TEXT, string_b=TEXT, delimiter=TEXT),
    "VAEDecode": _node(["IMAGE"], samples=LATENT, vae=VAE),
    "EmptyImage": _node(["IMAGE"], width=INT, height=INT, batch_size=INT, color=INT),
    "SaveImage": _node([], out=True, images=IMAGE, filename_prefix=["STRING", {"default": "ComfyUI"}]),
    "PreviewImage": _node([], out=True, images=IMAGE),
}


def object_info() -> dict:
    """Return a copy that a test may change."""
    return copy.deepcopy(_INFO)
