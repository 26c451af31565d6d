"""The serving config: everything the model server needs to know, as one frozen model.

It is the single source of `serving.yaml`, of `visionyard serve --set section.key=value`, of the environment
(`VISIONYARD_SERVE_SECTION__KEY`) and of the reference page. Secrets are files or variables, never values in here.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from visionyard.config.run_config import Section

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
ModelFormat = Literal["auto", "onnx", "onnx-fp16", "onnx-int8", "torchscript", "openvino"]
LogLevel = Literal["debug", "info", "warning", "error"]


class ServedModelConfig(Section):
    """One model of the server."""

    name: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$",
        description="Its name in the URLs; empty: the bundle's.",
    )
    path: str = Field(min_length=1, description="The model bundle: a folder, or s3://bucket/prefix.")
    format: ModelFormat = Field(
        "auto", description="auto takes the fastest certified format of the bundle for the device, and says which."
    )
    device: Device = Field("auto", description="auto takes a GPU where the installed runtime can use one.")
    threads: int = Field(
        0,
        ge=0,
        description="Threads of one inference; 0: all cores while it is alone, its share of them beside others.",
    )
    instances: int = Field(
        0, ge=0, le=64, description="Inferences running at the same time; 0: as many as cores, 1 on a GPU."
    )


class ServerSection(Section):
    """Where the server listens."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    http_port: int = Field(8080, ge=0, le=65535, description="REST; 0 takes a free one.")
    grpc_port: int = Field(8081, ge=-1, le=65535, description="gRPC; 0 takes a free one, -1 switches gRPC off.")
    root_path: str = Field("", pattern=r"^(/[^\s?#]*[^/\s?#])?$", description="Path prefix that a proxy strips.")
    grace_s: float = Field(30.0, ge=0, description="After SIGTERM, time for requests in flight to finish, seconds.")
    docs: bool = Field(True, description="Serve /docs and /openapi.json.")
    bundle_folder: str = Field(
        "",
        description="Where bundles from s3:// are kept between starts; empty: a folder that ends with the process.",
    )


class BatchingConfig(Section):
    """How requests share an inference, each model for itself."""

    max_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Most images of one inference; 0 chooses: 8 on a GPU, on a CPU as many as pay for the model's "
        "input (1 at 640 px, 2 at 224 px, 8 at 128 px and below).",
    )
    max_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="How long an image waits for company. 0: none waits, yet what queued while the model was busy "
        "goes together.",
    )
    queue_size: int = Field(
        64, ge=1, description="Images admitted and not yet answered; a request beyond that gets 503 with Retry-After."
    )


class LimitsConfig(Section):
    """What one request may ask for; beyond it the request is refused."""

    max_body_mib: float = Field(20.0, gt=0, description="Largest request body and gRPC message, MiB: 413.")
    max_images: int = Field(16, ge=1, description="Most images of one request.")
    max_rows: int = Field(10_000, ge=1, description="Most rows of a table in one request.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest image after decoding, pixels.")
    max_connections: int = Field(1000, ge=1, description="Open REST connections; beyond it 503.")
    deadline_s: float = Field(30.0, gt=0, description="A request not answered by then gets 504, seconds.")
    body_timeout_s: float = Field(10.0, gt=0, description="Time for a client to send a request, seconds.")
    min_confidence: float = Field(0.01, ge=0, le=1, description="Lowest confidence threshold a request may ask for.")
    max_top_k: int = Field(100, ge=1, description="Most classes a request may ask for.")
    max_detections: int = Field(1000, ge=1, description="Most boxes of an image a request may ask for.")
    max_mask_mib: float = Field(
        32.0, ge=0, le=240, description="Most MiB of v2's `mask_pixels` in one answer, a byte a pixel; 0: none."
    )


class UrlInputsConfig(Section):
    """Images given as URL: off unless hosts are allowed."""

    allow: list[str] = Field(
        default_factory=list, description="Host names, or *.example.com for all below one; empty: URLs are refused."
    )
    max_mib: float = Field(10.0, gt=0, description="Largest image fetched, MiB.")
    timeout_s: float = Field(5.0, gt=0, description="Time for one fetch, seconds.")


class CacheConfig(Section):
    """Answers kept by the content of the request and the bundle's digest."""

    max_mib: float = Field(0.0, ge=0, description="Memory for answers, MiB; 0: none are kept in memory.")
    redis_url: str = Field("", pattern=r"^(rediss?://.*)?$", description="A Redis that several servers share.")
    ttl_s: float = Field(300.0, gt=0, description="How long an answer is kept, seconds.")


class RateLimitConfig(Section):
    """Requests per key, or per client address where no keys are asked for."""

    requests_per_s: float = Field(0.0, ge=0, description="Steady rate; 0: no limit. Beyond it 429 with Retry-After.")
    burst: int = Field(20, ge=1, description="Requests that may come at once.")


class AuthConfig(Section):
    """Who may ask. Health and metrics stay open; the page asks for the key."""

    keys_file: str = Field(
        "", description="File with one API key a line (a mounted Secret), or `name:key`; empty: everyone may ask."
    )


class TlsConfig(Section):
    """Certificate and key of both ports; empty: plain text."""

    cert_file: str = Field("", description="PEM certificate chain.")
    key_file: str = Field("", description="PEM private key.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together; give both or none")
        return self


class CorsConfig(Section):
    """Which web pages of other origins may call the server."""

    origins: list[str] = Field(default_factory=list, description="Such as https://example.com; empty: none.")


class DriftConfig(Section):
    """Whether the pictures still look like those the model was trained on."""

    enabled: bool = Field(True, description="Compare requests with the bundle's reference statistics.")
    window: int = Field(256, ge=32, le=100_000, description="Images of the moving window.")
    max_cpu_share: float = Field(0.05, gt=0, le=1, description="Of one core; images beyond it are not looked at.")


class SamplingConfig(Section):
    """Requests kept for the next dataset version: off unless a place is given."""

    uri: str = Field("", description="s3://bucket/prefix or a folder; empty: nothing is kept.")
    rate: float = Field(0.01, ge=0, le=1, description="Share of ordinary images kept.")
    hard_rate: float = Field(0.5, ge=0, le=1, description="Share of hard ones: disputed, drifted, of little margin.")
    max_per_hour: int = Field(500, ge=1, description="Most images kept an hour, hard ones first.")
    second_opinion_rate: float = Field(
        0.0, ge=0, le=1, description="Share of an A/B split's requests that another arm, if idle, answers as well."
    )
    group_header: str = Field(
        "X-Group-Id", description="Header that names an image's camera or scene, so that splits keep it together."
    )


class ArmsConfig(Section):
    """A/B: requests to one name answered by several models."""

    name: str = Field("", description="The name in the URLs that is split; empty: no split.")
    weights: dict[str, float] = Field(default_factory=dict, description="Model name to its share; shares sum to 1.")
    header: str = Field("X-Arm", description="Header that picks an arm by name, before any draw.")
    hash_header: str = Field("X-Client-Id", description="Header whose value always draws the same arm.")

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        if self.name and abs(sum(self.weights.values()) - 1.0) > 1e-6:
            raise ValueError(f"weights sum to {sum(self.weights.values())}, expected 1")
        if any(share < 0 for share in self.weights.values()):
            raise ValueError(f"weights {self.weights}: a share is at least 0")
        return self


class ServingConfig(Section):
    """The whole of `serving.yaml`."""

    models: list[ServedModelConfig] = Field(default_factory=list, description="What is served.")
    server: ServerSection = Field(default_factory=ServerSection)
    batching: BatchingConfig = Field(default_factory=BatchingConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    url_inputs: UrlInputsConfig = Field(default_factory=UrlInputsConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    rate_limit: RateLimitConfig = Field(default_factory=RateLimitConfig)
    auth: AuthConfig = Field(default_factory=AuthConfig)
    tls: TlsConfig = Field(default_factory=TlsConfig)
    cors: CorsConfig = Field(default_factory=CorsConfig)
    drift: DriftConfig = Field(default_factory=DriftConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    arms: ArmsConfig = Field(default_factory=ArmsConfig)
    log_level: LogLevel = Field("info", description="Lines less urgent than this are not written.")

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        if self.limits.max_images > self.batching.queue_size:
            raise ValueError(
                f"limits.max_images {self.limits.max_images} is above batching.queue_size {self.batching.queue_size}; "
                "a request that large could never be admitted; lower the one or raise the other"
            )
        names = [model.name for model in self.models if model.name]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models: the name {twice[0]!r} is given twice; each needs its own")
        return self
