"""Convolutional parts of the historical prompt network, under the names that its checkpoints use.

torchvision's BasicBlock and timm's CBAM compute nearly the same; these exist because the published weights
have biases in every convolution before a batch norm, and other names for the two attention gates.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Residual block with the ReLU before each convolution, (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample = (
            None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(F.relu(self.conv1(F.relu(x))))
        return (x if self.downsample is None else self.downsample(x)) + residual


class BiasedBasicBlock(nn.Module):
    """ResNet's basic block with biased convolutions, (B, Cin, H, W) -> (B, Cout, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu((x if self.downsample is None else self.downsample(x)) + residual)


class ChannelGate(nn.Module):
    """CBAM's channel attention (Woo et al., ECCV 2018, section 3.1)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        scale = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * scale.sigmoid()[..., None, None]


class SpatialGate(nn.Module):
    """CBAM's spatial attention (Woo et al., ECCV 2018, section 3.2)."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        convolution = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)
        self.spatial = nn.Sequential(OrderedDict(conv=convolution))

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        return x * self.spatial(pooled).sigmoid()


class Cbam(nn.Module):
    """Channel attention, then spatial attention, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class FeatureFusionBlock(nn.Module):
    """Fuse mask-encoder features with backbone features, (B, Ca + Cb, H, W) -> (B, Cout, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = PreActivationBlock(in_channels, out_channels)
        self.attention = Cbam(out_channels)
        self.block2 = PreActivationBlock(out_channels, out_channels)

    def forward(self, encoded: Tensor, features: Tensor) -> Tensor:
        x = self.block1(torch.cat([encoded, features], dim=1))
        return self.block2(x + self.attention(x))


class MaskEncoder(nn.Module):
    """Encode an image with its target mask and backbone features into a memory value, at stride 16.

    The first three stages of a ResNet-18 over four channels (RGB and mask), then `FeatureFusionBlock`.

    Args:
        feature_channels: C of the backbone features.
        value_channels: channels of the memory value.
        width: channels of the first stage; 64 in the published model.
    """

    def __init__(self, feature_channels: int, value_channels: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, width, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, stride=1)
        self.layer2 = self._stage(width, 2 * width, stride=2)
        self.layer3 = self._stage(2 * width, 4 * width, stride=2)
        self.fuser = FeatureFusionBlock(4 * width + feature_channels, value_channels)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            BiasedBasicBlock(in_channels, out_channels, stride), BiasedBasicBlock(out_channels, out_channels)
        )

    def forward(self, image: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Encode.

        Args:
            image: (B, 3, H, W) normalised.
            features: (B, C, H / 16, W / 16).
            mask: (B, H, W) 1 on the target.

        Returns:
            (B, value_channels, H / 16, W / 16).
        """
        x = torch.cat([image, mask[:, None].to(image.dtype)], dim=1)  # (B, 4, H, W)
        x = F.relu(self.bn1(self.conv1(x)))  # (B, width, H / 2, W / 2)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 4 width, H / 16, W / 16)
        return self.fuser(x, features)
