"""`DiceTalkPipeline`: a portrait, speech and an emotion in, a video out, through DICE-Talk's published networks."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.portrait.full import checkpoints
from affetto.generators.portrait.full.clip import ClipConditions, FrameTokens
from affetto.generators.portrait.full.decoding import (
    Picture,
    decode_chunk,
    decoded,
    doubled,
    encode_picture,
    held,
    to_length,
)
from affetto.generators.portrait.full.denoiser import TalkingDenoiser
from affetto.generators.portrait.full.estimate import MemoryEstimate, estimate_memory, free_bytes
from affetto.generators.portrait.full.framing import FaceBox, Framed
from affetto.generators.portrait.full.inputs import Box, Photo, framed, noise_of, speech_of
from affetto.generators.portrait.full.interpolation import FrameInterpolator
from affetto.generators.portrait.full.kernels import chosen_kernel, with_kernel
from affetto.generators.portrait.full.ladder import Ladder, Running
from affetto.generators.portrait.full.loading import pulled_networks
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.priors import anchor_course, emotion_tokens
from affetto.generators.portrait.full.projections import AudioProjection, EmotionModel, PoseGuider
from affetto.generators.portrait.full.sampler import Cut, Denoising, Schedule
from affetto.generators.portrait.full.sizes import NETWORKS, DiceSizes, scheduler
from affetto.generators.portrait.full.speech import (
    SpeechEncoder,
    published_frames,
    speech_states,
    speech_windows,
)
from affetto.generators.portrait.full.video import FPS, DiceTalkVideo, RunReport
from affetto.generators.portrait.full.workers import DevicePool, Pool, ProcessPool, Worker, replica
from affetto.generators.portrait.landmarks import FaceLandmarks
from affetto.media.audio import Audio
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError, OutOfMemoryError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback, ProgressEvent

Feeling = str | Emotion | EmotionTrack | None
Edit = Callable[[int, Float[Tensor, "frame 4 row column"]], Float[Tensor, "frame 4 row column"]]


class DiceTalkPipeline(DiffusionPipeline):
    """Makes portraits speak with DICE-Talk (arXiv 2504.18087); called as `TalkingHead` is.

    A diffusers pipeline: `save_pretrained` writes a folder that `from_pretrained` reads, networks can be replaced one by one,
    and `interrupt` ends a run after the step it is in.
    """

    model_cpu_offload_seq = "image_encoder->speech->audio_linear->emotion_model->pose_guider->unet->vae"

    def __init__(
        self,
        unet: TalkingDenoiser,
        audio_linear: AudioProjection,
        emotion_model: EmotionModel,
        pose_guider: PoseGuider,
        interpolator: FrameInterpolator,
        speech: SpeechEncoder,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        scheduler: EulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet,
            audio_linear=audio_linear,
            emotion_model=emotion_model,
            pose_guider=pose_guider,
            interpolator=interpolator,
            speech=speech,
            vae=vae,
            image_encoder=image_encoder,
            scheduler=scheduler,
        )
        self._interrupt = False
        self._where = torch.device("cpu")
        self._away = False  # whether resting networks leave the device
        self._compiled = False

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path = checkpoints.DICE_ID,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        **kwargs: Any,
    ) -> "DiceTalkPipeline":
        """Load the pulled weights (`dice-talk`, with svd-xt and whisper-tiny), or a folder of `save_pretrained`.

        `dtype` auto is fp16 on a GPU, as published. Raises MissingResourceError with the commands that get what is missing.
        """
        where = resolve_device(device)
        half = torch.float16 if where.type == "cuda" else torch.float32
        precision = half if dtype == "auto" else resolve_dtype(dtype, where)
        if str(name) != checkpoints.DICE_ID:
            if not (Path(name) / "model_index.json").is_file():
                raise MissingResourceError(
                    f"{name}: is no folder that save_pretrained wrote: name one, or 'dice-talk'"
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # newer diffusers call this argument dtype
                pipe = super().from_pretrained(
                    str(name), torch_dtype=precision, local_files_only=True, **kwargs
                )
            return pipe.placed(where)
        return cls(**pulled_networks(precision), scheduler=scheduler()).placed(where)  # type: ignore[arg-type]

    @classmethod
    def fresh(cls, sizes: DiceSizes) -> "DiceTalkPipeline":
        """A pipeline of networks that have learned nothing yet, of any size: for training, trials and tests."""
        return cls(**{name: sizes.build(name).eval() for name in NETWORKS}, scheduler=scheduler())  # type: ignore[arg-type]

    def placed(self, device: str | torch.device) -> "DiceTalkPipeline":
        """The same pipeline, working on `device` from now on."""
        self._where = resolve_device(device)
        self.to(self._where)
        return self

    def interrupt(self) -> None:
        """End the run that is going on after its present step; its video is what has been denoised so far."""
        self._interrupt = True

    def __call__(
        self,
        photo: Photo,
        audio: Audio | str | Path,
        emotion: Feeling = None,
        *,
        face: int | None = None,
        landmarks: FaceLandmarks | None = None,
        box: Box | None = None,
        options: DiceTalkOptions | None = None,
        devices: Sequence[str] | None = None,
        callback_on_step_end: ProgressCallback | None = None,
        edit_latents: Edit | None = None,
        cancel: CancelToken | None = None,
    ) -> DiceTalkVideo:
        """The video of the person in `photo` who says `audio` with `emotion` (text form, value or track; None is neutral).

        `landmarks` or `box` (left, top, right, bottom in pixels, forehead to chin) replace the search for the face, `face`
        chooses one of several. `devices` share the windows of a step; so do the processes of `accelerate launch`. `edit_latents` is
        given every step's latents and gives those to go on with. The same seed gives the same video on the same machine.
        """
        options = options or DiceTalkOptions()
        preset = options.preset
        speech = speech_of(audio)
        if landmarks is not None:
            box = FaceBox.about_points(landmarks.box)
        portrait = framed(photo, face, box, options, self._where)
        dtype = self._precision(options)
        kernel = chosen_kernel(preset.kernel, self._where, dtype)
        self._interrupt, self._away = False, preset.offload == "idle"
        count, frames, states = self._length(speech, options)
        clip = self._conditions(portrait, states, frames, emotion, options)
        schedule = Schedule(
            steps=options.steps or preset.steps,
            windows=options.windows,
            guidance=options.guidance,
            reuse_every=preset.reuse_every,
        )
        running = Running(
            cut=Cut(windows=preset.windows_at_once, branches_together=preset.branches_together),
            keeps_keys=self.unet.known_bytes(clip.everything()) <= preset.key_bytes,
            idle_on_device=not self._away,
            features_on_device=preset.reuse_every > 1,
        )
        estimate = self._estimate(clip, schedule, running, dtype)
        if callback_on_step_end is not None:
            callback_on_step_end(ProgressEvent(stage="memory", done=1, total=1, message=estimate.line()))
        self._optimise(options)
        if self._away:
            self._rest()
        workers: list[Worker] = []
        ladder = Ladder(running, changed=lambda lower: self._relieve(lower, workers, denoising))
        noise = noise_of(clip, options.seed).to(self._where)
        denoising = Denoising.from_noise(
            schedule, self.scheduler, clip.latents * self.vae.config.scaling_factor, noise
        )
        with with_kernel(preset.kernel), self._at_work("unet"):
            pool = self._pool(clip, running, dtype, devices, workers)
            steps_done = self._denoise(denoising, pool, ladder, callback_on_step_end, edit_latents, cancel)
        kept = -(-frames // running.decode.chunk) * running.decode.chunk

        def report() -> RunReport:
            windows = len(schedule.windows.windows(clip.frames, 0))
            branches = len(schedule.guidance.branches)
            return RunReport(
                preset=preset.name,
                dtype=str(dtype).removeprefix("torch."),
                kernel=kernel,
                devices=tuple(str(worker.device) for worker in workers),
                branches=branches,
                windows=windows,
                passes=windows * branches * steps_done,
                steps_done=steps_done,
                estimated_bytes=estimate.peak,
                given_up=ladder.taken,
                same_result=ladder.exact,
            )

        return DiceTalkVideo(
            latents=denoising.latents[:kept].cpu(),
            audio=speech,
            photo=None if isinstance(photo, np.ndarray) else Path(photo),
            size=portrait.size,
            count=count,
            open_frames=lambda video: self._pictures(video, frames, ladder, interpolate=preset.interpolate),
            report=report,
        )

    def stream(
        self, photo: Photo, audio: Audio | str | Path, emotion: Feeling = None, **asked: Any
    ) -> Iterator[tuple[float, UInt8[np.ndarray, "row column 3"]]]:
        """Yield (seconds, frame) as frames are decoded; `asked` is what a call takes. Denoising comes first, whole."""
        video = self(photo, audio, emotion, **asked)
        for number, frame in enumerate(video.frames()):
            yield number / FPS, frame

    def _precision(self, options: DiceTalkOptions) -> torch.dtype:
        """What the networks compute in: their own precision when it is half, else the preset's."""
        own = self.unet.dtype
        return own if own != torch.float32 else options.preset.precision(self._where)

    def _length(self, speech: Audio, options: DiceTalkOptions) -> tuple[int, int, Tensor]:
        """How many frames the video has, how many are denoised, and the speech states."""
        with self._at_work("speech"):
            states = speech_states(self.speech, speech)
        if options.published_length:
            frames = published_frames(len(states))
            count = 2 * frames - 1
        else:
            count = max(1, round(speech.seconds * FPS))
            frames = count // 2 + 1
        return count, frames, states

    @torch.inference_mode()
    def _conditions(
        self, portrait: Framed, states: Tensor, frames: int, emotion: Feeling, options: DiceTalkOptions
    ) -> ClipConditions:
        """All that the denoiser is told, with the frames that pad the clip to let windows wrap around."""
        with self._at_work("vae"):
            latents = encode_picture(self.vae, portrait.pixels())
        with self._at_work("image_encoder") as encoder:
            image = encoder(portrait.for_clip().to(encoder.device, encoder.dtype)).image_embeds
        with self._at_work("audio_linear") as project:
            windows = speech_windows(states, frames).to(project.device, project.dtype)
            told = torch.cat([project(part) for part in windows.split(256)])
            audio = FrameTokens.of_frames(told, project(torch.zeros_like(windows[0])))
        with self._at_work("emotion_model") as model:
            tokens = emotion_tokens(model, model.priors, anchor_course(emotion, frames))
        with self._at_work("pose_guider") as guider:
            mask = portrait.mask.to(guider.device)
            spatial = guider(mask.to(guider.dtype).expand(1, 3, *mask.shape))[0]
        padding = options.windows.length
        return ClipConditions(
            image=image,
            latents=latents,
            audio=audio.padded(padding),
            emotion=tokens.padded(padding),
            spatial=spatial,
            mask=mask,
            time_ids=torch.tensor([12.5, options.motion_bucket, options.expression_bucket]),
            scales=(options.audio_scale, options.emotion_scale),
        )

    def _estimate(
        self, clip: ClipConditions, schedule: Schedule, running: Running, dtype: torch.dtype
    ) -> MemoryEstimate:
        """The estimate; raises OutOfMemoryError when the weights alone do not fit."""
        others = [
            getattr(self, name) for name in ("image_encoder", "speech", "audio_linear", "emotion_model")
        ]
        estimate = estimate_memory(
            self.unet,
            self.vae,
            others,
            running,
            frames=clip.frames,
            window=schedule.windows.length,
            branches=len(schedule.guidance.branches),
            rows=clip.latents.shape[-2],
            columns=clip.latents.shape[-1],
            dtype=dtype,
            reuse_every=schedule.reuse_every,
            key_bytes=self.unet.known_bytes(clip.everything()),
        )
        free = free_bytes(self._where)
        if free is not None and self.unet.device.type == "cpu" and estimate.denoiser_weights > free:
            raise OutOfMemoryError(
                f"{self._where}: the run takes {estimate.line()}, {free / 2**30:.1f} GiB are free"
            )
        return estimate

    def _optimise(self, options: DiceTalkOptions) -> None:
        """What a preset does to the denoiser itself; neither changes a result but for rounding."""
        layout = torch.channels_last if options.preset.channels_last else torch.contiguous_format
        for module in self.unet.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=layout)  # type: ignore[call-overload]
        compiled = options.preset.compiled and self._where.type == "cuda"
        if compiled != self._compiled:
            self.unet.compile(dynamic=False)
            if not compiled:
                self.unet._compiled_call_impl = None
            self._compiled = compiled

    def _pool(
        self,
        clip: ClipConditions,
        running: Running,
        dtype: torch.dtype,
        devices: Sequence[str] | None,
        workers: list[Worker],
    ) -> Pool:
        """One worker for each device; in a run of `accelerate launch`, the one of this process."""
        places = [resolve_device(name) for name in devices or ()]
        own = self.unet.device
        if places and (places[0].type, places[0].index or 0) != (own.type, own.index or 0):
            raise UsageError(f"the first of the devices must be the pipeline's, {own}: got {places[0]}")
        denoisers = [self.unet] + [replica(self.unet, place) for place in places[1:]]
        workers.extend(
            Worker(denoiser, clip, keep_keys=running.keeps_keys, dtype=dtype) for denoiser in denoisers
        )
        state = PartialState()
        if state.num_processes > 1:
            if len(workers) > 1:
                raise UsageError(
                    "devices and accelerate launch exclude each other: each process has one device"
                )
            return ProcessPool(workers[0], rank=state.process_index, processes=state.num_processes)
        return DevicePool(workers)

    def _denoise(
        self,
        denoising: Denoising,
        pool: Pool,
        ladder: Ladder,
        callback: ProgressCallback | None,
        edit: Edit | None,
        cancel: CancelToken | None,
    ) -> int:
        """All steps, or those before an interruption; the number of steps that were done."""
        total = denoising.schedule.steps
        for number in range(total):
            if cancel is not None:
                cancel.check()
            ladder.attempt("denoise", lambda running, k=number: denoising.step(k, pool, running.cut))
            if edit is not None:
                denoising.latents = edit(number, denoising.latents)
            if callback is not None:
                callback(ProgressEvent(stage="denoise", done=number + 1, total=total))
            if self._interrupt:
                return number + 1
        return total

    def _relieve(self, running: Running, workers: Sequence[Worker], denoising: Denoising) -> None:
        """Make a lower rung's layout true."""
        if not running.idle_on_device and not self._away:
            self._away = True
            self._rest()
        denoising.features_on_device = running.features_on_device
        for worker in workers:
            if not running.keeps_keys:
                worker.known = None
            if running.slices_feed_forward:
                worker.denoiser.slice_feed_forward(denoising.schedule.windows.length)

    def _pictures(
        self, video: DiceTalkVideo, frames: int, ladder: Ladder, *, interpolate: bool
    ) -> Iterator[Picture]:
        """The video's pictures: decoded chunk by chunk, doubled, cut to its length."""

        def decode(latents: Tensor) -> Tensor:
            with self._at_work("vae"):
                return ladder.attempt("decode", lambda running: _in_parts(self.vae, latents, running))

        pictures = decoded(self.vae, video.latents, frames, decode=decode)
        # Half precision cannot tell places in a picture of 512 pixels apart: this small network is fp32 everywhere.
        nn.Module.to(self.interpolator, device=self._where, dtype=torch.float32)
        whole = doubled(pictures, self.interpolator) if interpolate else held(pictures)
        return to_length(whole, video.count)

    @contextlib.contextmanager
    def _at_work(self, name: str) -> Iterator[Any]:
        """The network, on the device for as long as it works."""
        network = getattr(self, name)
        network.to(self._where)
        try:
            yield network
        finally:
            if self._away:
                network.to("cpu")

    def _rest(self) -> None:
        """Everything but the denoiser leaves the device."""
        for name, network in self.components.items():
            if isinstance(network, nn.Module) and name != "unet":
                network.to("cpu")


def _in_parts(vae: AutoencoderKLTemporalDecoder, latents: Tensor, running: Running) -> Tensor:
    """A chunk's pictures, decoded in as many parts as memory has asked for."""
    parts = latents.split(running.decode.chunk)
    return torch.cat([decode_chunk(vae, part, running.decode) for part in parts])
