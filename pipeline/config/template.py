"""What `pipeline init` writes: every key with its default, commented out, so that the file says what can be said."""

INIT_TEMPLATE = """\
# pipeline.yaml: all of it is optional; what is commented out shows the default or an example.
# ${NAME} and ${NAME:-default} in a value are read from the environment.

# jobs: jobs                  # the watched folder
# state: .pipeline            # index, spool, tokens
# default_owner: me           # owner of a character whose first job names none
# settle: 0.5                 # seconds a file must have stood still, where nothing else tells that its writer is done
# scan_interval: 2            # seconds between scans of the folder
# spool_limit: 10GB           # pictures waiting for the store, beyond which no new image is started
# keep_done: 30d              # delete ended job files after that time; without it nothing is deleted

# gallery:
#   enabled: true
#   host: 127.0.0.1
#   port: 8787
#   public_url: http://127.0.0.1:8787
#   cors: [https://app.example]        # origins whose pages may ask the gallery
#   jwt: {secret: "${GALLERY_JWT_SECRET}", issuer: https://login.example, audience: gallery, owner_claim: sub}

# store:                      # without it: Cloudinary where CLOUDINARY_URL is set, else the folder `images`
#   type: cloudinary
#   cloud_name: demo
#   api_key: ${CLOUDINARY_API_KEY}
#   api_secret: ${CLOUDINARY_API_SECRET}
#   access: authenticated     # or public
# store:
#   type: local
#   folder: images

# Without back ends, pictures are drawn on this machine ("sketch"): for trying things.
# backends:
#   pod:
#     type: comfyui
#     url: https://PODID-8188.proxy.runpod.net
#     workflow: workflows/anime.json   # saved in API format
#     concurrency: 2
#     stagger: 0.5
#     timeout: 10m
#     attempts: 3
#   xl:
#     type: runpod
#     endpoint: abc123
#     api_key: ${RUNPOD_API_KEY}
#     worker: sdxl            # sdxl | a1111 | comfyui | custom
#     price_per_hour: 1.10
#   webui:
#     type: a1111
#     url: http://127.0.0.1:7860

# styles:                     # any job key as that style's default; {prompt} is the job's own
#   anime: {backend: [pod, xl], model: animagine.safetensors, steps: 28, prompt: "{prompt}, soft light"}
# default_style: anime
# default_backend: [pod, xl]

# notify:                     # told when a job has ended, unless the job names another address
#   url: https://app.example/hooks/pipeline
#   secret: ${NOTIFY_SECRET}
"""
