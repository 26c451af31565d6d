"""The pipeline train_model."""

from kfp import dsl

from visionyard.cluster.profiles import settle
from visionyard.components.benchmark_model import benchmark_model
from visionyard.components.deploy_model import deploy_model
from visionyard.components.export_model import export_model
from visionyard.components.extract_frames import extract_frames
from visionyard.components.ingest_dataset import ingest_dataset
from visionyard.components.prepare_dataset import prepare_dataset
from visionyard.components.promote_model import promote_model
from visionyard.components.train_model import train_model as train_stage
from visionyard.components.validate_model import validate_model


# Not "train-model": a compiled pipeline that has the name of one of its components is loaded as that component.
@dsl.pipeline(name="visionyard-train-model")
def train_model(
    data_source: str,
    run_name: str = "run",
    data_kind: str = "auto",
    data_target: str = "",
    data_classes: list = [],
    data_group_pattern: str = "",
    data_split_mode: str = "group",
    data_val_fraction: float = 0.15,
    data_test_fraction: float = 0.2,
    data_split_seed: int = 0,
    data_folds: int = 0,
    data_fold: int = 0,
    data_previous: str = "",
    data_split_file: str = "",
    data_group_by: str = "clip",
    data_near_duplicates: str = "group",
    data_leak_budget: float = 0.01,
    data_allow_leak: bool = False,
    frames_rate_hz: float = 2.0,
    frames_max_per_clip: int = 0,
    frames_drop_blurred: bool = False,
    frames_drop_similar: bool = False,
    frames_jpeg_quality: int = 95,
    frames_anonymize_model: str = "",
    frames_anonymize_spec: str = "",
    frames_anonymize_classes: list = [],
    frames_anonymize_confidence: float = 0.3,
    frames_anonymize_padding: float = 0.15,
    frames_anonymize_method: str = "blur",
    model_name: str = "yolo-detection",
    model_preset: str = "",
    model_weights: str = "",
    model_options: dict = {},
    training_epochs: int = 20,
    training_batch_size: int = 0,
    training_image_size_px: int = 0,
    training_learning_rate: float = 0.0,
    training_weight_decay: float = 0.0005,
    training_patience: int = 0,
    training_keep_epochs: list = [],
    training_seed: int = 0,
    training_device: str = "auto",
    training_mixed_precision: str = "no",
    training_loader_workers: int = -1,
    validation_confidence_threshold: float = 0.25,
    validation_iou_threshold: float = 0.5,
    export_formats: list = ["onnx", "torchscript"],
    export_opset: int = 18,
    export_score_tolerance: float = 0.001,
    export_metric_tolerance: float = 0.001,
    export_int8_metric_tolerance: float = 0.01,
    benchmark_batch_sizes: list = [1, 8],
    benchmark_threads: list = [1, 2],
    benchmark_repeat_count: int = 30,
    benchmark_warmup_count: int = 3,
    promotion_model: str = "",
    promotion_confidence: float = 0.95,
    promotion_least_gain: float = 0.0,
    promotion_class_budget: float = 0.05,
    promotion_least_metric: float = 0.0,
    promotion_most_p95_ms: float = 0.0,
    promotion_approval: str = "none",
    promotion_store: str = "",
    deployment_target: str = "none",
    deployment_name: str = "",
    deployment_namespace: str = "",
    deployment_store_uri: str = "",
    deployment_format: str = "onnx",
    deployment_image: str = "",
    deployment_mode: str = "Standard",
    deployment_min_replicas: int = 1,
    deployment_max_replicas: int = 1,
    deployment_scale_metric: str = "cpu",
    deployment_scale_target: int = 80,
    deployment_cpu: str = "1",
    deployment_memory: str = "2Gi",
    deployment_gpu_count: int = 0,
    deployment_service_account: str = "visionyard-serving",
    deployment_credentials: str = "visionyard-s3",
    deployment_canary_percent: int = 0,
    deployment_canary_requests: int = 300,
    deployment_canary_duration_s: float = 1800.0,
    deployment_timeout_s: float = 600.0,
    deployment_options: dict = {},
    data_digest: str = "",
    data_split_file_digest: str = "",
    frames_anonymize_digest: str = "",
    software_digest: str = "",
    training_checkpoints_uri: str = "",
    resources_cpu: str = "2",
    resources_memory: str = "8Gi",
    resources_accelerator_type: str = "nvidia.com/gpu",
    resources_accelerator_count: str = "0",
) -> None:
    """Clips or labelled images in; a validated, exported, certified and benchmarked model out.

    Args:
        data_source: Folder, archive or file with the data: a path, s3://bucket/prefix or http(s) address.
        run_name: Name of the run's folder and experiment.
        data_kind: How the source is laid out; auto looks and says what it found.
        data_target: Column to be learnt, for kind table; empty when the table's schema file names it.
        data_classes: Class names to keep, in the order of their ids; empty keeps all, as found.
        data_group_pattern: Regular expression on an image's path whose first group names its group (its scene or
            video); images of one group stay in one split. Empty: a clip is a group, each loose image is its own.
        data_split_mode: group draws a leak-safe split; published keeps the source's own train, val and test.
        data_val_fraction: Share of the items for validation while training.
        data_test_fraction: Share of the items that judge the finished model.
        data_split_seed: Seed of the split; another one draws other groups.
        data_folds: Divide into so many parts for cross-validation, 3 or more; 0 uses the shares above.
        data_fold: Which fold this run tests, 0 to folds - 1; the next one validates.
        data_previous: Folder or address of an earlier dataset version; its images keep their splits.
        data_split_file: CSV of names (items, clips or groups) and the splits that they stand in: a path, s3:// or
            http(s) address; the rest is drawn around them.
        data_group_by: clip keeps a whole clip in one split; scene only each shot of it.
        data_near_duplicates: group keeps images that show the same in one split; report only counts them.
        data_leak_budget: Share of val and test that may have a near-duplicate in another split.
        data_allow_leak: Train although the split leaks; the report says so first.
        frames_rate_hz: Frames kept per second of video, by presentation time.
        frames_max_per_clip: Most frames of one clip, spread evenly over it; 0 keeps all.
        frames_drop_blurred: Leave out frames far less sharp than their clip's usual.
        frames_drop_similar: Leave out frames that look like the one kept before them.
        frames_jpeg_quality: JPEG quality of the kept frames; 95 is near lossless.
        frames_anonymize_model: Detector of what is hidden: a model bundle, or an ONNX file; a path or s3:// address;
            empty hides nothing.
        frames_anonymize_spec: For an ONNX file: its spec.yaml, as for `visionyard bundle import`; empty: beside it,
            NAME.spec.yaml.
        frames_anonymize_classes: The detector's classes that are hidden; empty hides all that it knows.
        frames_anonymize_confidence: Least confidence of what is hidden; low hides more, and more that is none.
        frames_anonymize_padding: Margin hidden around a box, as a share of its width and height on each side.
        frames_anonymize_method: blur is smooth, pixelate has squares, fill leaves one grey area and nothing else.
        model_name: Plugin; `visionyard models` lists them.
        model_preset: The plugin's variant, or its own model file; empty takes the default.
        model_weights: Start from these weights: a path, s3:// address, or a name the plugin knows; empty: from
            scratch.
        model_options: The plugin's own options; `visionyard models show NAME` lists them.
        training_epochs: Passes over the training split.
        training_batch_size: Images per optimizer step; 0 takes the preset's.
        training_image_size_px: Side of the model's input; 0 takes the preset's.
        training_learning_rate: Peak learning rate; 0 takes the preset's.
        training_weight_decay: Decoupled weight decay.
        training_patience: Stop after this many epochs without a better one; 0 never stops early.
        training_keep_epochs: Epochs whose checkpoints stay, beside the newest three and the best.
        training_seed: Seed of weights, order and augmentation.
        training_device: auto, cpu, cuda, cuda:0 ...; auto takes a GPU when there is one.
        training_mixed_precision: fp16 or bf16 halve memory on GPUs; no is exact.
        training_loader_workers: Processes that prepare batches; -1 computes it from the cores.
        validation_confidence_threshold: Detections below it are not drawn nor counted as right or wrong; mAP uses
            all.
        validation_iou_threshold: Overlap from which a detection matches a true box.
        export_formats: Formats of the model bundle; half precision and eight bits are quicker on some machines.
        export_opset: ONNX operator set.
        export_score_tolerance: Largest difference of a class score.
        export_metric_tolerance: Largest difference of the main metric.
        export_int8_metric_tolerance: The same for onnx-int8.
        benchmark_batch_sizes: Images per call.
        benchmark_threads: Intra-operator threads; more than the cores are skipped.
        benchmark_repeat_count: Timed calls of each combination.
        benchmark_warmup_count: Calls before the timed ones.
        promotion_model: Name of the registered model; empty: the run's name.
        promotion_confidence: How certain it must be that the new model is better than the champion.
        promotion_least_gain: Gain of the main metric that is asked for; below 0 one as good as the champion passes too.
        promotion_class_budget: Most that recall or AP of one class may fall.
        promotion_least_metric: Least value of the main metric, champion or not.
        promotion_most_p95_ms: Most latency of the fastest format, 95 % of the calls; 0: no limit.
        promotion_approval: required: a person approves each bundle, by `visionyard approve`, before it is promoted.
        promotion_store: Folder or s3:// prefix of approvals and watermarks; empty: beside the local runs.
        deployment_target: none deploys nothing; kubernetes is a plain Deployment, for clusters without KServe.
        deployment_name: Name of the service; empty: the run's name.
        deployment_namespace: Kubernetes namespace; empty: the account's or the context's own.
        deployment_store_uri: s3://bucket/prefix below which bundles are put, each under its digest.
        deployment_format: Format of the bundle that is served.
        deployment_image: Serving image; empty: that of this version.
        deployment_mode: How KServe runs it: HPA or Knative's KPA.
        deployment_min_replicas: Fewest pods; 0 scales to zero, in Knative mode and on RunPod.
        deployment_max_replicas: Most pods; the same as min_replicas: a fixed number.
        deployment_scale_metric: What the number of pods follows; concurrency and rps in Knative mode only.
        deployment_scale_target: Of scale_metric, a pod: percent of what it requests, requests at a time or a second.
        deployment_cpu: CPU cores of a pod, as Kubernetes writes them.
        deployment_memory: Memory of a pod, the same way.
        deployment_gpu_count: GPUs of a pod.
        deployment_service_account: Account of the pods; for KServe it lists the Secret of the object store.
        deployment_credentials: Secret of the object store, read by the kubernetes target.
        deployment_canary_percent: Share of the traffic that judges a new bundle beside the old one; 0: no canary.
        deployment_canary_requests: Answers of the canary before it can be promoted.
        deployment_canary_duration_s: A canary that is undecided after this is rolled back, seconds.
        deployment_timeout_s: Longest wait for a new bundle to serve, seconds.
        deployment_options: The target's own options; docs/deploying.md lists them.
        data_digest: Digest of the source's content, so that cached results end when the data changes.
        data_split_file_digest: Digest of the content of data_split_file, likewise.
        frames_anonymize_digest: Digest of the content of frames_anonymize_model and its spec, likewise.
        software_digest: Digest of code and images, so that cached results end when they change.
        training_checkpoints_uri: Folder or s3:// prefix for checkpoints while training; empty keeps them in the pod.
        resources_cpu: CPU cores of the training pod, as Kubernetes writes them; the profile sets the other pods'.
        resources_memory: Memory of the training pod, as Kubernetes writes it.
        resources_accelerator_type: Resource name of the accelerator of the training pod.
        resources_accelerator_count: How many of them; 0 trains on CPU.
    """
    ingested = ingest_dataset(
        source=data_source,
        kind=data_kind,
        target=data_target,
        group_pattern=data_group_pattern,
        anonymize_model=frames_anonymize_model,
        anonymize_spec=frames_anonymize_spec,
        anonymize_classes=frames_anonymize_classes,
        anonymize_confidence=frames_anonymize_confidence,
        anonymize_padding=frames_anonymize_padding,
        anonymize_method=frames_anonymize_method,
        anonymize_digest=frames_anonymize_digest,
        data_digest=data_digest,
        software_digest=software_digest,
    )
    extracted = extract_frames(
        sources=ingested.outputs["sources"],
        rate_hz=frames_rate_hz,
        max_per_clip=frames_max_per_clip,
        drop_blurred=frames_drop_blurred,
        drop_similar=frames_drop_similar,
        jpeg_quality=frames_jpeg_quality,
        anonymize_model=frames_anonymize_model,
        anonymize_spec=frames_anonymize_spec,
        anonymize_classes=frames_anonymize_classes,
        anonymize_confidence=frames_anonymize_confidence,
        anonymize_padding=frames_anonymize_padding,
        anonymize_method=frames_anonymize_method,
        anonymize_digest=frames_anonymize_digest,
        software_digest=software_digest,
    )
    prepared = prepare_dataset(
        sources=ingested.outputs["sources"],
        frames=extracted.outputs["frames"],
        classes=data_classes,
        split_mode=data_split_mode,
        val_fraction=data_val_fraction,
        test_fraction=data_test_fraction,
        split_seed=data_split_seed,
        folds=data_folds,
        fold=data_fold,
        previous=data_previous,
        split_file=data_split_file,
        group_by=data_group_by,
        near_duplicates=data_near_duplicates,
        leak_budget=data_leak_budget,
        split_file_digest=data_split_file_digest,
        software_digest=software_digest,
    )
    trained = train_stage(
        dataset=prepared.outputs["dataset"],
        name=model_name,
        preset=model_preset,
        weights=model_weights,
        options=model_options,
        epochs=training_epochs,
        batch_size=training_batch_size,
        image_size_px=training_image_size_px,
        learning_rate=training_learning_rate,
        weight_decay=training_weight_decay,
        patience=training_patience,
        keep_epochs=training_keep_epochs,
        seed=training_seed,
        device=training_device,
        mixed_precision=training_mixed_precision,
        loader_workers=training_loader_workers,
        allow_leak=data_allow_leak,
        checkpoints_uri=training_checkpoints_uri,
        software_digest=software_digest,
    )
    validated = validate_model(
        dataset=prepared.outputs["dataset"],
        checkpoint=trained.outputs["checkpoint"],
        confidence_threshold=validation_confidence_threshold,
        iou_threshold=validation_iou_threshold,
        software_digest=software_digest,
    )
    exported = export_model(
        dataset=prepared.outputs["dataset"],
        checkpoint=trained.outputs["checkpoint"],
        evaluation=validated.outputs["evaluation"],
        name=run_name,
        formats=export_formats,
        opset=export_opset,
        score_tolerance=export_score_tolerance,
        metric_tolerance=export_metric_tolerance,
        int8_metric_tolerance=export_int8_metric_tolerance,
        software_digest=software_digest,
    )
    measured = benchmark_model(
        dataset=prepared.outputs["dataset"],
        checkpoint=trained.outputs["checkpoint"],
        evaluation=validated.outputs["evaluation"],
        bundle=exported.outputs["bundle"],
        batch_sizes=benchmark_batch_sizes,
        threads=benchmark_threads,
        repeat_count=benchmark_repeat_count,
        warmup_count=benchmark_warmup_count,
        software_digest=software_digest,
    )
    promoted = promote_model(
        dataset=prepared.outputs["dataset"],
        checkpoint=trained.outputs["checkpoint"],
        evaluation=validated.outputs["evaluation"],
        bundle=exported.outputs["bundle"],
        benchmark=measured.outputs["benchmark"],
        run_name=run_name,
        model=promotion_model,
        confidence=promotion_confidence,
        least_gain=promotion_least_gain,
        class_budget=promotion_class_budget,
        least_metric=promotion_least_metric,
        most_p95_ms=promotion_most_p95_ms,
        approval=promotion_approval,
        store=promotion_store,
        data_digest=data_digest,
        software_digest=software_digest,
    )
    # The champion and a person's approval are no inputs, so a cached verdict could be an old one.
    promoted.set_caching_options(False)
    deployed = deploy_model(
        bundle=exported.outputs["bundle"],
        verdict=promoted.outputs["verdict"],
        run_name=run_name,
        target=deployment_target,
        name=deployment_name,
        namespace=deployment_namespace,
        store_uri=deployment_store_uri,
        format=deployment_format,
        image=deployment_image,
        mode=deployment_mode,
        min_replicas=deployment_min_replicas,
        max_replicas=deployment_max_replicas,
        scale_metric=deployment_scale_metric,
        scale_target=deployment_scale_target,
        cpu=deployment_cpu,
        memory=deployment_memory,
        gpu_count=deployment_gpu_count,
        service_account=deployment_service_account,
        credentials=deployment_credentials,
        canary_percent=deployment_canary_percent,
        canary_requests=deployment_canary_requests,
        canary_duration_s=deployment_canary_duration_s,
        timeout_s=deployment_timeout_s,
        options=deployment_options,
        software_digest=software_digest,
    )
    # What the cluster serves is no input either.
    deployed.set_caching_options(False)
    settle(ingested, "ingest_dataset")
    settle(extracted, "extract_frames")
    settle(prepared, "prepare_dataset")
    settle(
        trained,
        "train_model",
        cpu=resources_cpu,
        memory=resources_memory,
        accelerator_type=resources_accelerator_type,
        accelerator_count=resources_accelerator_count,
    )
    settle(validated, "validate_model")
    settle(exported, "export_model")
    settle(measured, "benchmark_model")
    settle(promoted, "promote_model")
    settle(deployed, "deploy_model")
